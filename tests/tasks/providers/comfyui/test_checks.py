"""Does `manage.py check --tag comfyui` find what would let tasks fail, and ask only when told?"""

import io
import json
import re

import pytest
from django.core.checks import run_checks
from django.core.management import CommandError, call_command

from tests.support.comfyui import EXAMPLES, film, still, template, write
from tests.support.servers.comfyui import ComfyUI


@pytest.fixture
def pool(settings, tmp_path, comfy):
    """One server named gpu-a, and one good template."""
    settings.COMFYUI_URLS = [f"gpu-a={comfy.url}"]
    settings.COMFYUI_WORKFLOWS = str(write(tmp_path / "workflows", still=template(still(), "3")))
    settings.PROVIDER_ALLOW_NETWORKS = ["comfyui=127.0.0.0/8"]
    settings.GENERATION_PROVIDERS = {"image_generation": "comfyui"}
    return comfy


def add(settings, tmp_path, **documents):
    write(tmp_path / "workflows", **documents)


def check(*arguments):
    out = io.StringIO()
    try:
        call_command("check", *arguments, stdout=out, stderr=out)
    except CommandError as error:
        return str(error)
    return out.getvalue()


def test_good_templates_give_nothing(pool):
    """Proves that a server that has everything gives no finding."""
    assert "no issues" in check("--tag", "comfyui")


def test_only_the_tag_asks_the_servers(pool):
    """Proves that plain checks, which run before other commands too, ask no server."""
    check()
    run_checks()
    assert pool.state.seen == []
    check("--tag", "comfyui")
    assert {path for _, path, _ in pool.state.seen} == {"/system_stats", "/object_info"}
    seen = len(pool.state.seen)
    run_checks()
    assert len(pool.state.seen) == seen, "the check did not stay"


def test_what_a_server_lacks_is_an_error(pool, settings, tmp_path):
    """Proves that nodes, models, bounds, versions and wrong outputs are found, each by its node."""
    bad = still(width=20_000)
    bad["2"] = {"class_type": "HoloSampler", "inputs": {"image": ["1", 0]}}
    model = still()
    model["1"] = {"class_type": "CheckpointLoaderSimple", "inputs": {"ckpt_name": "sd.safetensors"}}
    newer = template(still(), "3", requires={"comfyui": ">=0.26"})
    lacking = still()
    del lacking["2"]["inputs"]["strength"]
    add(
        settings,
        tmp_path,
        bad=template(bad, "3"),
        model=template(model, "3"),
        newer=newer,
        silent=template(still(), "2"),
        lacking=template(lacking, "3"),
    )
    found = check("--tag", "comfyui")
    for text in (
        "bad on gpu-a: Node 2: HoloSampler is not installed.",
        "bad on gpu-a: Node 1 (EmptyImage): width is 20000; 16384 is the most.",
        "ckpt_name is 'sd.safetensors'; there is nothing.",
        "newer on gpu-a: It needs ComfyUI 0.26; this one is 0.3.64.",
        "silent on gpu-a: Node 2 saves nothing",
        "lacking on gpu-a: Node 2 (ImageAddNoise) lacks strength.",
    ):
        assert text in found
    assert pool.url not in found


def test_an_input_that_may_not_be_left_out_is_found(pool, settings, tmp_path):
    """Proves that a file without which a node lacks a required input has to be declared."""
    graph = still()
    graph["4"] = {"class_type": "LoadImage", "inputs": {"image": "example.png"}}
    blend = {"image1": ["1", 0], "image2": ["4", 0], "blend_factor": 0.5, "blend_mode": "normal"}
    graph["5"] = {"class_type": "ImageBlend", "inputs": blend}
    graph["3"]["inputs"]["images"] = ["5", 0]
    document = template(graph, "3", files={"image": ["4", "image"]})
    add(settings, tmp_path, blend=document)
    assert "Without image node 5 (ImageBlend) lacks image2" in check("--tag", "comfyui")
    add(settings, tmp_path, blend={**document, "requires": {"inputs": ["image"]}})
    assert "no issues" in check("--tag", "comfyui")


def test_a_server_that_is_away_is_a_warning(pool):
    """Proves that an unreachable server does not fail a deploy."""
    pool.kill()
    out = io.StringIO()
    call_command("check", "--tag", "comfyui", stdout=out, stderr=out)
    assert "gpu-a cannot be asked" in out.getvalue()
    with pytest.raises(CommandError, match="gpu-a cannot be asked"):
        call_command("check", "--tag", "comfyui", "--fail-level", "WARNING", stderr=out)


def test_each_template_is_asked_of_its_own_servers(pool, settings, tmp_path):
    """Proves that a template with a pool of its own is not looked for elsewhere."""
    add(settings, tmp_path, film=template(film(), "6", task_type="video_generation"))
    with ComfyUI() as second:
        settings.COMFYUI_URLS = [f"gpu-a={pool.url}", f"gpu-b={second.url}"]
        options = {"servers": {"still": ["gpu-a"], "film": ["gpu-a"]}}
        settings.GENERATION_PROVIDERS = {
            "image_generation": {"provider": "comfyui", "options": options}
        }
        check("--tag", "comfyui")
        assert pool.state.seen
        assert second.state.seen == []


@pytest.mark.parametrize(
    ("name", "value", "problem"),
    [
        ("COMFYUI_URLS", [], "Set COMFYUI_URLS."),
        ("COMFYUI_URLS", ["gpu-a=ftp://x"], "gpu-a needs an address"),
        ("COMFYUI_URLS", ["a=http://x:1", "a=http://y:1"], "the label a is given twice"),
        ("COMFYUI_URLS", ["gpu a=http://x:1"], "entry 1 has no usable label"),
        ("COMFYUI_CONCURRENCY", ["many"], "a number from 1 up"),
        ("COMFYUI_CONCURRENCY", ["gpu-z=2"], "no server gpu-z"),
        ("COMFYUI_HEADERS", {"gpu-a": "x"}, "needs an object of texts"),
        ("COMFYUI_HEADERS", {"gpu-a": {"X": "a\r\nB: c"}}, "needs an object of texts"),
        ("COMFYUI_WORKFLOWS", "", "Set COMFYUI_WORKFLOWS"),
        ("PROVIDER_ALLOW_NETWORKS", ["comfyui=lan"], "lan is no network"),
        ("PROVIDER_ALLOW_NETWORKS", ["comfy=10.0.0.0/8"], "there is no provider comfy"),
    ],
)
def test_plain_checks_judge_the_configuration(pool, settings, name, value, problem):
    """Proves that what can be seen without asking a server is said by every check."""
    setattr(settings, name, value)
    assert any(problem in found.msg for found in run_checks(tags=["tasks"]))


def test_plain_checks_judge_the_files(pool, settings, tmp_path):
    """Proves that a wrong template file, and a name without one, are said by every check."""
    add(settings, tmp_path, wrong={"task_type": "image_generation"})
    options = {"model": "nonesuch"}
    settings.GENERATION_PROVIDERS = {
        "image_generation": {"provider": "comfyui", "options": options}
    }
    found = "\n".join(each.msg for each in run_checks(tags=["tasks"]))
    assert "wrong.json: workflow: The workflow is not an object of nodes." in found
    assert "There is no template nonesuch." in found


# -- the command that makes a template ------------------------------------------------------------


def made(tmp_path, graph, *arguments):
    """Run the command on a graph; return the document and what was said."""
    saved, said = tmp_path / "saved_api.json", io.StringIO()
    saved.write_text(json.dumps(graph))
    out = io.StringIO()
    call_command("comfyui_template", str(saved), *arguments, stdout=out, stderr=said)
    return json.loads(out.getvalue()), said.getvalue()


def test_a_saved_graph_becomes_a_template(tmp_path):
    """Proves that prompt, seed, size, frames, loader and output are guessed from a real shape."""
    graph = json.loads((EXAMPLES / "wan-i2v.json").read_text())["workflow"]
    document, said = made(tmp_path, graph)
    assert document["task_type"] == "video_generation"
    assert document["parameters"] == {
        "prompt": ["6", "text"],
        "negative_prompt": ["7", "text"],
        "seed": ["3", "seed"],
        "width": ["55", "width"],
        "height": ["55", "height"],
        "frames": ["55", "length"],
    }
    assert document["converters"]["frames"] == {"from": "duration_s", "step": 4, "fps": 24.0}
    assert document["files"] == {"first_frame": ["56", "image"]}
    assert document["output"] == "58"
    assert "guessed: negative_prompt: node 7 text" in said
    assert "to do:   If the workflow cannot do without first_frame" in said


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.json")), ids=lambda path: path.stem)
def test_the_examples_are_what_the_command_makes(tmp_path, path):
    """Proves that every example is the command's own work, so that none grows old."""
    document = json.loads(path.read_text())
    assert made(tmp_path, document["workflow"])[0] == document


@pytest.mark.parametrize(
    ("graph", "problem"),
    [
        ({"nodes": [], "links": [], "version": 0.4}, "File, Export (API)"),
        ({"1": {"class_type": "EmptyImage", "inputs": {}}}, "No node saves a result"),
        ([], "not an object of nodes"),
    ],
)
def test_what_is_no_api_graph_is_refused_with_advice(tmp_path, graph, problem):
    """Proves that the editor's own form of a graph is refused, with what to do instead."""
    with pytest.raises(CommandError, match=re.escape(problem)):
        made(tmp_path, graph)


def test_a_template_is_not_replaced_by_accident(tmp_path):
    """Proves that a file that is there stays, unless --force is said."""
    target = tmp_path / "still.json"
    arguments = ("--output", str(target))
    saved = tmp_path / "saved.json"
    saved.write_text(json.dumps(still()))
    call_command("comfyui_template", str(saved), *arguments, stderr=io.StringIO())
    before = target.read_text()
    with pytest.raises(CommandError, match="--force"):
        call_command("comfyui_template", str(saved), *arguments, stderr=io.StringIO())
    assert target.read_text() == before
    call_command("comfyui_template", str(saved), *arguments, "--force", stderr=io.StringIO())
