"""Is ComfyUI's protocol spoken as it was recorded? Against the stand-in, over real sockets."""

import asyncio
import base64
import uuid

import pytest

from tasks_app.media import probe
from tasks_app.providers.base import CancelOutcome, ProviderError
from tasks_app.providers.comfyui import server
from tasks_app.providers.comfyui.server import JobStage
from tasks_app.providers.remote.base import Busy, WorkFailed
from tasks_app.providers.remote.client import Unclear, Unreachable
from tests.support.comfyui import ask, film, still
from tests.support.servers.comfyui import ComfyUI
from tests.support.waiting import wait_until


def new_id() -> str:
    return str(uuid.uuid4())


def submit(comfy, graph, prompt_id=None):
    prompt_id = prompt_id or new_id()
    ask(comfy, lambda line: server.submit(line, prompt_id, graph, {}))
    return prompt_id


def state(comfy, prompt_id):
    return ask(comfy, lambda line: server.look(line, prompt_id))


def ended(comfy, prompt_id):
    return wait_until(
        lambda: (
            found
            if (found := state(comfy, prompt_id)).stage not in (JobStage.PENDING, JobStage.RUNNING)
            else None
        ),
        30,
    )


def refusal(comfy, graph):
    with pytest.raises(ProviderError) as caught:
        submit(comfy, graph)
    return caught.value


# -- submit and look ------------------------------------------------------------------------------


def test_a_film_with_sound_is_found_and_fetched(comfy, tmp_path):
    """Proves that a film which ComfyUI lists under ``images`` is found by its ending and probed."""
    done = ended(comfy, submit(comfy, film("t1")))
    assert done.stage == JobStage.DONE
    [place] = server.results(done.outputs, "6", "video")
    path = tmp_path / "film"
    ask(comfy, lambda line: line.download(place, path, 1 << 20))
    found = probe.probe(path)
    assert (found.media_type, found.codecs, found.duration) == ("video/mp4", ("h264", "aac"), 1.0)


def test_the_id_is_ours(comfy):
    """Proves that the id that was chosen before the submit is the one that the server knows."""
    chosen = new_id()
    submit(comfy, still(), chosen)
    [body] = comfy.calls("POST /prompt")
    assert (body["prompt_id"], body["client_id"]) == (chosen, chosen)
    assert ended(comfy, chosen).stage == JobStage.DONE


def test_a_lost_answer_leaves_a_job_that_can_be_found(comfy):
    """Proves that a submit whose answer was lost is unclear, and is there under its id."""
    comfy.state.is_silent_after_submit = True
    chosen = new_id()
    with pytest.raises(Unclear):
        submit(comfy, still(), chosen)
    assert ended(comfy, chosen).stage == JobStage.DONE


def test_a_server_that_is_away_received_nothing(comfy):
    """Proves that a submit to a dead server is known to have reached nobody."""
    comfy.kill()
    with pytest.raises(Unreachable):
        submit(comfy, still())


def test_jobs_that_move_between_the_questions_are_not_lost(comfy):
    """Proves that a job which ends right after any answer is never unknown: queue, then history."""
    for number in range(10):
        prompt_id = new_id()
        comfy.state.running = [number, prompt_id, still(), {}, ["3"]]

        def ends_now(call: str, prompt_id: str = prompt_id) -> None:
            if comfy.state.running:
                status = {"status_str": "success", "completed": True, "messages": []}
                comfy.state.history[prompt_id] = {"outputs": {}, "status": status}
                comfy.state.running = None

        comfy.state.after = ends_now
        assert state(comfy, prompt_id).stage == JobStage.RUNNING
        assert state(comfy, prompt_id).stage == JobStage.DONE


def test_many_jobs_are_asked_for_with_one_queue(comfy):
    """Proves that one look at fifty jobs asks once for the queue, and only for ended ones again."""
    done = submit(comfy, still())
    ended(comfy, done)
    comfy.hold()
    ids = [submit(comfy, still(f"p{number}")) for number in range(49)]
    comfy.runs(ids[0])
    before = len(comfy.state.seen)
    found = ask(comfy, lambda line: server.looks(line, [done, *ids]))
    asked = [path for _, path, _ in comfy.state.seen[before:]]
    assert asked == ["/queue", f"/history/{done}"]
    assert [found[each].stage for each in (done, ids[0], ids[1])] == ["done", "running", "pending"]
    assert found[ids[48]].ahead == 48
    comfy.let_go()


def test_one_unreadable_history_is_that_jobs_alone(comfy):
    """Proves that a job whose history cannot be read does not make the others look lost."""
    done, broken = submit(comfy, still("a")), submit(comfy, still("b"))
    ended(comfy, done), ended(comfy, broken)
    comfy.state.instead[f"GET /history/{broken}"] = (500, b"Internal Server Error")
    found = ask(comfy, lambda line: server.looks(line, [broken, done]))
    assert found[done].stage == JobStage.DONE
    assert (found[broken].code, found[broken].status) == ("provider_unavailable", 500)


def test_a_server_that_dies_between_the_questions_is_asked_no_more(comfy):
    """Proves that after a lost answer the other jobs do not wait for one each."""
    ids = [new_id() for _ in range(3)]
    comfy.state.dies_at = "GET /history"
    found = ask(comfy, lambda line: server.looks(line, ids))
    assert {type(each) for each in found.values()} == {Unclear}
    assert {path for _, path, _ in comfy.state.seen if "history" in path} == {f"/history/{ids[0]}"}


def test_a_restarted_server_does_not_know_the_job(comfy):
    """Proves that after a kill running and waiting jobs are unknown, and files are still there."""
    done = submit(comfy, still("before"))
    place = server.results(ended(comfy, done).outputs, "3", "image")[0]
    comfy.hold()
    running, waiting = submit(comfy, still("a")), submit(comfy, still("b"))
    comfy.runs(running)
    comfy.kill()
    comfy.start()
    assert {state(comfy, each).stage for each in (done, running, waiting)} == {JobStage.UNKNOWN}
    answer = ask(comfy, lambda line: line.call("GET", place, headers={"Range": "bytes=0-7"}))
    assert (answer.status, answer.body) == (206, b"\x89PNG\r\n\x1a\n")


def test_the_same_graph_answers_the_same_file(comfy):
    """Proves why a prefix of the task's own is needed: without, two tasks share one file."""
    first, again = (ended(comfy, submit(comfy, still("same"))) for _ in range(2))
    other = ended(comfy, submit(comfy, still("other")))
    places = [server.results(each.outputs, "3", "image") for each in (first, again, other)]
    assert places[0] == places[1] != places[2]
    assert comfy.state.executed == ["EmptyImage", "ImageAddNoise", "SaveImage", "SaveImage"]


# -- what goes wrong ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"1": {"class_type": "NoSuchNode", "inputs": {}}}, "node NoSuchNode does not exist"),
        ({"nodes": [], "links": []}, "invalid_prompt"),
        ({"3": {"class_type": "ImageInvert", "inputs": {"image": ["1", 0]}}}, "prompt_no_outputs"),
        (still(width=20_000), "EmptyImage (node 1) value_bigger_than_max"),
    ],
)
def test_a_refused_graph_is_final_and_says_why(comfy, change, words):
    """Proves that a refusal is permanent and keeps the server's reason for operators."""
    error = refusal(comfy, {**still(), **change})
    assert (error.code, error.retryable) == ("provider_rejected", False)
    assert words in error.words
    assert words not in error.message


def test_a_partly_valid_graph_is_an_error_and_is_taken_back(comfy):
    """Proves that node_errors in a 200 are an error, and that the valid part is not left queued."""
    comfy.hold()
    submit(comfy, still("other"))
    graph = still()
    graph["4"] = {"class_type": "CheckpointLoaderSimple", "inputs": {"ckpt_name": "sd.safetensors"}}
    graph["5"] = {
        "class_type": "SaveImage",
        "inputs": {"images": ["4", 0], "filename_prefix": "x"},
    }
    error = refusal(comfy, graph)
    assert error.code == "provider_rejected"
    assert "'sd.safetensors' not in []" in error.words
    assert comfy.state.pending == []
    comfy.let_go()


def test_a_failure_keeps_the_servers_paths_to_itself(comfy):
    """Proves that a failed node is told by class and error, without path, traceback or inputs."""
    graph = still()
    graph["2"] = {"class_type": "LoadImage", "inputs": {"image": "no/such.png"}}
    failed = ended(comfy, submit(comfy, graph))
    assert failed.stage == JobStage.FAILED
    assert failed.words.startswith("LoadImage (node 2): FileNotFoundError:")
    assert "in ..." in failed.words
    for hidden in ("/home", "studio", "execution.py", "secret prompt"):
        assert hidden not in failed.words


def test_words_of_the_server_are_bounded(comfy):
    """Proves that at most 500 characters of an error are kept."""
    comfy.state.instead["POST /prompt"] = (
        400,
        b'{"error": {"type": "x", "message": "' + b"long " * 1000 + b'"}}',
    )
    assert len(refusal(comfy, still()).words) == 500


@pytest.mark.parametrize(
    ("status", "expected"),
    [(None, JobStage.FAILED), ({"status_str": "error", "completed": False}, JobStage.FAILED)],
)
def test_a_history_without_a_reason_is_a_failure(comfy, status, expected):
    """Proves that a status of null, or without messages, is read and means no result."""
    comfy.state.history["x"] = {"outputs": {}, "status": status}
    assert state(comfy, "x").stage == expected


@pytest.mark.parametrize("status", [429, 503])
def test_a_proxy_without_room_is_busy(comfy, status):
    """Proves that a proxy's 429 and 503 at submit mean that there is no room, and no failure."""
    comfy.state.instead["POST /prompt"] = (status, b"")
    with pytest.raises(Busy):
        submit(comfy, still())


def test_an_id_that_is_no_uuid_is_refused_by_newer_servers():
    """Proves that the stand-in of 0.25 asks for canonical ids, which ours are."""
    with ComfyUI(version="0.25.0") as newer:
        submit(newer, still())
        with pytest.raises(ProviderError) as caught:
            submit(newer, still(), "not-a-uuid")
    assert "invalid_prompt_id" in caught.value.words


def test_a_version_that_names_jobs_itself_is_refused():
    """Proves that an old ComfyUI, whose jobs could not be found again, gets no work to do."""
    with ComfyUI(version="0.3.10") as older:
        older.hold()  # else it might be done before it is taken back
        with pytest.raises(ProviderError, match="too old") as caught:
            submit(older, still())
        wait_until(lambda: older.state.pending == [], 20)
        assert older.calls("POST /queue") or older.calls("POST /interrupt")
    assert (caught.value.code, caught.value.retryable) == ("provider_rejected", False)


# -- results --------------------------------------------------------------------------------------


def row(name, kind="output"):
    return {"filename": name, "subfolder": "", "type": kind}


def test_only_files_of_the_output_kind_are_results():
    """Proves that previews and inputs are no results, whatever a node lists."""
    shown = {"3": {"images": [row("a.png", "temp"), row("b.png"), row("c.png", "input")]}}
    [place] = server.results(shown, "3", "image")
    assert "filename=b.png" in place
    with pytest.raises(WorkFailed) as caught:
        server.results({"3": {"images": [row("a.png", "temp")]}}, "3", "image")
    assert caught.value.code == "output_invalid"


def test_of_several_kinds_that_of_the_task_is_taken():
    """Proves that a still beside a film is left, and that a node's other lists are read."""
    shown = {"9": {"gifs": [row("a.mp4"), row("a.png")], "text": ["done"]}}
    assert [place.split("&")[0] for place in server.results(shown, "9", "video")] == [
        "view?filename=a.mp4"
    ]


def test_a_name_is_only_ever_a_query(comfy):
    """Proves that a file's name cannot lead to another path of the server or of ours."""
    shown = {"3": {"images": [row("../../etc/passwd?x=1&type=input#")]}}
    [place] = server.results(shown, "3", "image")
    assert place.startswith("view?filename=..%2F..%2Fetc%2Fpasswd%3Fx%3D1%26type%3Dinput%23&")
    with pytest.raises(ProviderError) as caught:
        ask(comfy, lambda line: line.call("GET", place))
    assert caught.value.status == 400


# -- stop -----------------------------------------------------------------------------------------


def stop(comfy, prompt_id):
    return ask(comfy, lambda line: server.stop(line, prompt_id))


@pytest.mark.parametrize("version", ["0.3.64", "0.26.0"])
def test_a_stop_takes_only_ours(version):
    """Proves that waiting jobs are taken out, running ones interrupted, and others go on."""
    with ComfyUI(version=version) as comfy:
        comfy.hold()
        others, waiting = submit(comfy, still("others")), submit(comfy, still("ours"))
        comfy.runs(others)
        assert stop(comfy, waiting) == CancelOutcome.CONFIRMED
        assert state(comfy, waiting).stage == JobStage.UNKNOWN
        assert state(comfy, others).stage == JobStage.RUNNING
        assert stop(comfy, others) in (CancelOutcome.REQUESTED, CancelOutcome.CONFIRMED)
        assert ended(comfy, others).stage == JobStage.INTERRUPTED
        called = {path for method, path, _ in comfy.state.seen if method == "POST"}
        by_id = {f"/api/jobs/{each}/cancel" for each in (others, waiting)}
        assert called - {"/prompt"} == (by_id if version == "0.26.0" else {"/queue", "/interrupt"})
        assert {"prompt_id": others} in comfy.calls("POST /interrupt") or version == "0.26.0"


def test_a_job_that_begins_as_it_is_taken_out_is_interrupted(comfy):
    """Proves that a deletion which comes too late is noticed, and followed by an interruption."""
    comfy.hold()
    others, ours = submit(comfy, still("others")), submit(comfy, still("ours"))
    comfy.runs(others)

    def begins(call: str) -> None:
        if call == "GET /queue" and comfy.state.pending:
            comfy.state.running, comfy.state.pending = comfy.state.pending[0], []

    comfy.state.after = begins
    assert stop(comfy, ours) == CancelOutcome.REQUESTED
    assert {"prompt_id": ours} in comfy.calls("POST /interrupt")
    comfy.let_go()


def test_a_stop_of_what_has_ended_says_so(comfy):
    """Proves that an ended job is told from one that the server does not know."""
    done = submit(comfy, still())
    ended(comfy, done)
    assert stop(comfy, done) == CancelOutcome.ENDED
    assert stop(comfy, new_id()) == CancelOutcome.UNKNOWN


# -- files and facts ------------------------------------------------------------------------------


def test_an_upload_is_used_under_the_name_of_the_answer(comfy, tmp_path):
    """Proves that the answer's name is taken, which differs where the name is in use already."""
    picture, other = tmp_path / "a.png", tmp_path / "b.png"
    picture.write_bytes(b"one")
    other.write_bytes(b"two")

    def named(path):
        return ask(comfy, lambda line: server.upload(line, path, "first frame.png", "task-1"))

    assert named(picture) == "task-1/first frame.png"
    assert named(picture) == "task-1/first frame.png"
    assert named(other) == "task-1/first frame (1).png"
    assert (comfy.state.place.folder / "input/task-1/first frame.png").read_bytes() == b"one"


def test_an_upload_becomes_a_picture(comfy, tmp_path):
    """Proves that image to image works from an uploaded file."""
    ended(comfy, submit(comfy, still("source")))
    [source] = (comfy.state.place.folder / "output").iterdir()
    name = ask(comfy, lambda line: server.upload(line, source, "a.png", "task-1"))
    graph = still("made")
    graph["1"] = {"class_type": "LoadImage", "inputs": {"image": name}}
    assert ended(comfy, submit(comfy, graph)).stage == JobStage.DONE


def test_version_and_queue_are_read(comfy):
    """Proves that version and queue length are what the server says."""
    comfy.hold()
    for number in range(3):
        submit(comfy, still(f"p{number}"))
    assert ask(comfy, server.version) == (0, 3, 64)
    assert ask(comfy, server.queue_length) == 3
    comfy.let_go()


def test_a_proxys_credentials_are_sent():
    """Proves that headers of a server go with each request."""
    with ComfyUI(credentials="studio:secret") as guarded:
        token = base64.b64encode(b"studio:secret").decode()
        assert ask(guarded, server.version, Authorization=f"Basic {token}") == (0, 3, 64)
        with pytest.raises(ProviderError) as caught:
            ask(guarded, server.version)
    assert caught.value.code == "provider_auth"


def test_events_reach_the_client_that_submitted(comfy):
    """Proves that a WebSocket named like the job gets its events and previews."""
    prompt_id, seen, seen_bytes = new_id(), [], []

    async def follow(line):
        events = line.listen(f"ws?clientId={prompt_id}")
        async for event in events:
            if isinstance(event, bytes):
                seen_bytes.append(event)
                continue
            seen.append(event["type"])
            if seen == ["status"]:
                await server.submit(line, prompt_id, still(), {})
            if event["type"] == "execution_success":
                return await events.aclose()
        return None

    ask(comfy, lambda line: asyncio.wait_for(follow(line), 20))
    assert seen[:3] == ["status", "execution_start", "execution_cached"]
    assert "progress_state" in seen
    assert seen_bytes[0].endswith(b"preview")
