"""How does the database look after a month? Many rows, made by PostgreSQL itself in seconds.

Common values are common and rare ones rare; some values that a filter offers do not occur: a page
without an index would then read the whole table.
"""

from __future__ import annotations

from django.db import connection

#: Tables that grow with every task; no page may read all of one.
BIG = (
    "tasks_app_task",
    "tasks_app_remotejob",
    "webhooks_app_webhookevent",
    "webhooks_app_webhookmessage",
    "webhooks_app_webhookdelivery",
    "webhooks_app_replayjob",
    "webhooks_app_operatoraction",
)

_FILL = (
    """
INSERT INTO tasks_app_task (metadata_values, id, project_id, task_type, task_data, callback_url,
  webhook_events,
  priority, status, progress, current_step, version, error_code, error, traceback, attempts,
  lost_count, available_at, timeout_seconds, event_sequence, request_id, created_at, started_at,
  finished_at)
SELECT jsonb_build_object('userId', i::text, 'env', 'prod', 'team', (i % 10)::text),
  ('00000000-0000-4000-8000-' || lpad(i::text, 12, '0'))::uuid, 'project-' || i % 40,
  CASE WHEN i % 3 = 0 THEN 'image_generation' ELSE 'video_generation' END, '{}',
  'https://host-project-' || i % 40 || '.example.org/hook', '[]', 2,
  CASE WHEN i % 10 = 0 THEN 'failed' ELSE 'completed' END, 1, '', 1, '', '', '', 0, 0, at, 1800,
  1, 'request-' || i, at, at, at + interval '5 s'
FROM (SELECT i, now() - (%(count)s - i) * (interval '30 days' / %(count)s) AS at
      FROM generate_series(1, %(count)s) AS i) AS moments
""",
    """
INSERT INTO tasks_app_remotejob (id, task_id, task_type, provider, server, model, attempt, state,
  outcome, stop_reason, remote, outputs, facts, callback_token, note, next_look_at, asked_at,
  seen_at, deadline, created_at, ended_at)
SELECT gen_random_uuid(), id, task_type, CASE WHEN number % 5 = 0 THEN 'fal' ELSE 'comfyui' END,
  CASE WHEN number % 5 = 0 THEN 'fal' ELSE 'gpu-' || number % 4 END, 'film', 1, 'ended',
  CASE WHEN number % 500 = 0 THEN 'unclear' WHEN number % 10 = 0 THEN 'failed' ELSE 'completed' END,
  '', '{}', '[]', '{}', lpad(number::text, 48, '0'), '', created_at, created_at, created_at,
  created_at, created_at, finished_at
FROM (SELECT row_number() OVER (ORDER BY created_at) AS number, * FROM tasks_app_task) AS numbered
""",
    """
INSERT INTO tasks_app_remoteserver (provider, label, is_paused, last_error)
SELECT DISTINCT provider, server, false, '' FROM tasks_app_remotejob
UNION SELECT 'replicate', 'never-used', false, ''
ON CONFLICT DO NOTHING
""",
    """
INSERT INTO webhooks_app_webhookevent (event_id, scope, subject, event_type, sequence,
  is_terminal, body, created_at, request_id, metadata)
SELECT 'msg_' || right(id::text, 12), project_id, id::text, 'task.' || status, 1, true,
  '{}', finished_at, request_id, metadata_values
FROM tasks_app_task ORDER BY created_at
""",
    """
INSERT INTO webhooks_app_webhookdestination (scope, scheme, host, port, hold_reason,
  disabled_reason, breaker_state, failing_messages, created_at)
SELECT DISTINCT scope, 'https', 'host-' || scope || '.example.org', 443, '', '', 'closed', 0, now()
FROM webhooks_app_webhookevent
""",
    """
INSERT INTO webhooks_app_webhookmessage (event_id, url, destination_id, status, policy, jitter,
  retry_step, interrupted_count, attempt_count, last_status_code, last_error_code, created_at,
  delivered_at, finished_at)
SELECT event.id, 'https://' || host || '/', destination.id,
  CASE WHEN event.id %% 200 = 0 THEN 'dead' ELSE 'delivered' END, '{1,2,4}', 0, 0, 0, 1,
  CASE WHEN event.id %% 200 = 0 THEN 500 ELSE 200 END,
  CASE WHEN event.id %% 200 = 0 THEN 'http_status' ELSE '' END, event.created_at,
  CASE WHEN event.id %% 200 = 0 THEN NULL ELSE event.created_at END, event.created_at
FROM webhooks_app_webhookevent AS event
JOIN webhooks_app_webhookdestination AS destination ON destination.scope = event.scope
ORDER BY event.id
""",
    """
INSERT INTO webhooks_app_webhookdelivery (message_id, attempt_number, trigger, url,
  remote_address, request_headers, started_at, duration_ms, phases, outcome, response_status,
  response_headers, is_truncated, reconnected, error_code, error)
SELECT id, 1, CASE WHEN id %% 500 = 0 THEN 'replay' ELSE 'scheduled' END, url, '', '{}',
  created_at, 40, '{}', CASE WHEN status = 'dead' THEN 'failed' ELSE 'succeeded' END,
  last_status_code, '{}', false, false, last_error_code, ''
FROM webhooks_app_webhookmessage ORDER BY id
""",
    """
INSERT INTO webhooks_app_replayjob (id, filters, target_url, reason, requested_by, source, state,
  total, started_count, skipped_count, last_message_id, highest_message_id, created_at, finished_at,
  scope)
SELECT gen_random_uuid(), '{}', '', '', 'key abc', 'api', 'finished', 1, 1, 0, 0, 0, created_at,
  created_at, 'project-' || id %% 40
FROM webhooks_app_webhookmessage
""",
    """
INSERT INTO webhooks_app_operatoraction (at, actor, action, target, reason, scope)
SELECT created_at, CASE WHEN id %% 100 = 0 THEN 'mara' ELSE 'key abc' || id %% 7 END,
  CASE WHEN id %% 300 = 0 THEN 'prune' ELSE 'replay.start' END, 'message ' || id, '',
  'project-' || id %% 40
FROM webhooks_app_webhookmessage ORDER BY id
""",
)


def fill(count: int) -> None:
    """Make ``count`` tasks of the last 30 days with all their rows, and run ANALYZE."""
    with connection.cursor() as cursor:
        for statement in _FILL:
            cursor.execute(
                statement.replace("i % ", "i %% ").replace("number % ", "number %% "),
                {"count": count},
            )
        cursor.execute(f"ANALYZE {', '.join(BIG)}, webhooks_app_webhookdestination")
