"""What should a client know of each operation beyond its summary? Text for the API page."""

from __future__ import annotations

from django.conf import settings

from webhooks_app.conf import webhook_settings

_REPLAY = (
    "A replay keeps the message's `webhook-id` and body. With `callback_url` it goes there as a "
    "message of its own; the dead letter is `replayed` then, and `replayed_as` names that message. "
    "Needs the scope `admin`."
)
_CANCEL = (
    "With the answer the task is cancelled; a render under way stops soon after. 409 once the task "
    "has ended."
)
_TASK = "404 for a task that is not there or is another project's. See `status` for how it goes."
_PAGE = "`next_cursor` and `next` lead to the next page; both are null on the last."
_STOP = (
    "What is due already stays due, the rest is left alone. 409 `not_running` once it has ended."
)

#: Operation -> what to know, beside its summary.
DESCRIPTIONS = {
    "submitTask": "Once you have the 201, the task is stored and will run. Send an "
    "`Idempotency-Key` to be able to repeat the request; a replayed answer says "
    "`Idempotent-Replayed: true`.",
    "listTasks": f"What the key may see. {_PAGE}",
    "listProjectTasks": f"404 for a project that the key may not see. {_PAGE}",
    "getTask": _TASK,
    "getTaskStatus": f"The same as `getTask`, under another address. {_TASK}",
    "deleteTask": _CANCEL,
    "cancelTask": f"The same as `deleteTask`, for clients that cannot send DELETE. {_CANCEL}",
    "watchTask": "The first event is the task as it stands. The stream ends with the task, or "
    f"after {settings.SSE_MAX_SECONDS:g} seconds; come back with `Last-Event-ID`.",
    "getTaskPreview": "The newest picture that the provider's server sent of the work so far, at "
    "most every few seconds. 204 while there is none: most providers send none, and a task that is "
    "not `processing` has none.",
    "retryTask": "A new task with the same input, linked by `retry_of` and `retried_by`. 409 "
    "where its state does not allow it.",
    "listAssets": f"What clients handed in and what tasks made. {_PAGE}",
    "createAsset": "As `multipart/form-data` with one `file`: it is decoded before you get the "
    "201, and is `ready`. As JSON with a `url`: it is `pending` until a worker has fetched it, "
    "then `ready` or `failed`. The same bytes twice in a project are one asset.",
    "completeAsset": "After you have sent the file with the form of a presigned upload. It stays "
    "`pending` until a worker has decoded it. 409 `not_awaited` for any other asset.",
    "getAsset": "404 for an asset that is not there or is another project's.",
    "deleteAsset": "409 `in_use` while a task that has not ended names it, and for what a task "
    "made.",
    "listProviders": "By task type and model: every parameter that is used, with its bounds, and "
    "every file that can be given. What is not listed is refused at submit with "
    "`unsupported_by_provider`. `passes_options`: what stands in `options` goes to the model as it "
    "is, but for `closed_options`.",
    "getProjectCosts": "What was booked in a calendar month. 404 for a project that the key may "
    "not see.",
    "taskMetrics": "Over everything that the key may see.",
    "health": "Asks nothing else and needs no key: for load balancers.",
    "ready": "Asks the database, Redis and the workers. Only a key is "
    "told the reasons and figures.",
    "listTaskWebhooks": f"What was sent about a task, and what came back. {_PAGE}",
    "listMessages": f"Newest first; all conditions must hold. {_PAGE}",
    "getMessage": "By its number, or by its `webhook-id` (`msg_...`) or the beginning of that; 409 "
    "`several_messages` where that means several. 404 for a message that is not there or is "
    "another project's.",
    "listDeliveries": f"Newest first; all conditions must hold. {_PAGE}",
    "replayMessage": _REPLAY,
    "setMessageAside": "It is kept and can be replayed by its id. 409 `not_possible` unless it is "
    "`dead`. Needs the scope `admin`.",
    "takeMessageBack": "409 `not_possible` unless it was set aside. Needs the scope `admin`.",
    "setMessagesAside": "See with a `dry_run` of `startReplay` what a filter means. Needs the "
    "scope `admin`.",
    "startReplay": f"Answers 202 and goes on by itself; ask `getReplay`. {_REPLAY}",
    "getReplay": "`progress` counts the messages: started, skipped, left, and how they ended.",
    "deleteReplay": _STOP,
    "cancelReplay": f"The same as `deleteReplay`, for clients that cannot send DELETE. {_STOP}",
    "listEndpoints": f"Without their secrets. {_PAGE}",
    "createEndpoint": "The answer holds the secret that signs for this endpoint. Needs the scope "
    "`admin`.",
    "getEndpoint": "Without its secret; see `getSigningSecret`.",
    "replaceEndpoint": "For what only changes a part, see `changeEndpoint`. Needs the scope "
    "`admin`.",
    "changeEndpoint": "What is not given stays as it is. `is_enabled` turns it off and on again. "
    "Needs the scope `admin`.",
    "deleteEndpoint": "What was sent stays in the history. Needs the scope `admin`.",
    "dryRunEndpoint": "Of an event, of every event of a task, or of a body: `would_send`, a "
    "sentence, and what each condition of the filter saw. Nothing is sent or saved.",
    "pingEndpoint": "To see whether it answers. Needs the scope `admin`.",
    "listOperatorActions": f"Who did what, when and why. Needs the scope `admin`. {_PAGE}",
    "listDestinations": f"One row for each origin and project. Needs the scope `admin`. {_PAGE}",
    "changeDestinations": "With a `host` it means that receiver in every project that the key may "
    "see; a key bound to a project changes that project's alone. Look with `dry_run` first. Needs "
    "the scope `admin`.",
    "getDestination": "404 for one that is not there or is another project's. Needs the scope "
    "`admin`.",
    "pauseDestination": "What is owed waits and loses no retry. Needs the scope `admin`.",
    "resumeDestination": "Also where nothing holds it back. Needs the scope `admin`.",
    "disableDestination": "Dead letters can be replayed once it is enabled. Needs the scope "
    "`admin`.",
    "enableDestination": "New messages go there again. Needs the scope `admin`.",
    "muteDestination": "It is left out of the figure behind the alert, of the dashboard and of "
    "`endpoint.failing`. Needs the scope `admin`.",
    "unmuteDestination": "Also where it is not muted. Needs the scope `admin`.",
    "listCredentials": f"Without their secrets. Needs the scope `admin`. {_PAGE}",
    "createCredential": "`kind` says which parts it has: `headers`; `token` (bearer); `username` "
    "and `password` (basic); `token_url`, `client_id`, `client_secret` (oauth2); `certificate` and "
    "`private_key`. Secrets are stored encrypted and never shown again. Needs the scope `admin`.",
    "getCredential": "By id or name. `details` has what may be shown; the secret is not there. "
    "Needs the scope `admin`.",
    "changeCredential": "By id or name. What is not given stays. A new origin or `token_url` is "
    "taken only together with the secret. Needs the scope `admin`.",
    "deleteCredential": "By id or name. 409 `in_use` while an endpoint, a key, the project, a task "
    "under way or a pending message names it. Needs the scope `admin`.",
    "testCredential": "By id or name. The request goes to `url` at once and is not in the history; "
    "it is 200 whatever the receiver answered. Needs the scope `admin`.",
    "listEvents": "For those who cannot receive webhooks: fetch, deal with them, acknowledge. "
    f"{_PAGE}",
    "acknowledgeEvents": "They are listed no more.",
    "getSigningSecret": "Of a project, or of one endpoint. Needs the scope `admin`.",
    "rotateSigningSecret": "Replace the secret in your receiver before the old one's end. Needs "
    "the scope `admin`.",
    "publicKeys": "To verify the asymmetric signatures (`v1a`) without a shared secret.",
}
#: Of every webhook.
RECEIVED = (
    "Signed after the Standard Webhooks specification. Answer with one of "
    f"{', '.join(map(str, sorted(webhook_settings.SUCCESS_STATUSES)))} within "
    f"{webhook_settings.TIMEOUT_SECONDS:g} seconds; anything else is tried again."
)
