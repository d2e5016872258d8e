"""Does a template become the right graph, and does a wrong one say what is wrong?"""

import json
import os

import orjson
import pytest

from tasks_app.providers.comfyui import graphs, templates
from tasks_app.providers.comfyui.graphs import BadValue
from tests.support.comfyui import EXAMPLES, film, still, template, write

WAN = (EXAMPLES / "wan-i2v.json").read_bytes()


def parsed(document, name="still"):
    return templates.parse(name, json.dumps(document).encode())


def filled(made, values=None, files=None, seed=7):
    return graphs.fill(made, values or {}, task_id="task-1", seed=seed, files=files or {})


# -- files ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.json")), ids=lambda path: path.stem)
def test_the_examples_are_templates(path):
    """Proves that every example can be used as it is."""
    assert templates.parse(path.stem, path.read_bytes()).output


@pytest.mark.parametrize(
    ("members", "problem"),
    [
        ({"output": "9"}, "output: the id of the node"),
        ({"task_type": "opera"}, "task_type: one of"),
        ({"inputs": {}}, "inputs: there is no such member"),
        ({"parameters": {"prompt": ["9", "text"]}}, "there is no node 9"),
        ({"parameters": {"prompt": ["2", "text"]}}, "node 2 has no input text"),
        ({"parameters": {"prompt": ["2", "image"]}}, "is linked to another node"),
        ({"parameters": {"prompt": "2"}}, '["node id", "input"]'),
        ({"parameters": {"prompt": []}}, '["node id", "input"]'),
        ({"parameters": ["prompt"]}, "parameters: an object"),
        ({"files": {"first_frame": ["1", "width"]}}, "has the inputs image, mask"),
        ({"converters": {"frames": {}}}, "converters.frames: there is no such parameter"),
        ({"requires": {"comfyui": "0.26"}}, 'a version such as ">=0.26"'),
        ({"requires": {"inputs": ["nonesuch"]}}, "neither a parameter nor a file"),
        ({"workflow": {"1": {"inputs": {}}}}, "Node 1 has no class_type"),
        (
            {"workflow": {"1": {"class_type": "X", "inputs": {"image": ["2", 0]}}}},
            "is linked to node 2",
        ),
        ({"workflow": {"nodes": [], "links": []}}, "File, Export (API)"),
    ],
)
def test_a_wrong_file_says_what_is_wrong(members, problem):
    """Proves that each fault of a file is named in a sentence for its author."""
    with pytest.raises(templates.BadTemplate) as caught:
        parsed({**template(still(), "3"), **members})
    assert problem in str(caught.value)


@pytest.mark.parametrize(
    ("converter", "problem"),
    [
        ({"fps": 0}, "more than 0"),
        ({"step": 1.5}, "a number"),
        ({"extra": True}, "a number"),
        ({"from": 3}, "a parameter's name"),
        ({"by": 2}, "no such member"),
    ],
)
def test_a_wrong_converter_says_what_is_wrong(converter, problem):
    """Proves that converters are judged member by member."""
    members = {"parameters": {"width": ["1", "width"]}, "converters": {"width": converter}}
    with pytest.raises(templates.BadTemplate) as caught:
        parsed(template(still(), "3", **members))
    assert problem in str(caught.value)


def test_a_bare_graph_is_told_from_a_template():
    """Proves that somebody who saves a graph into the folder is told of the command."""
    with pytest.raises(templates.BadTemplate, match="comfyui_template"):
        parsed(still())


def test_an_edited_file_is_read_again(tmp_path):
    """Proves that a change counts for the next task, and a broken file hides no other."""
    write(tmp_path, one=template(still(), "3"), two=template(still(), "3"))
    good, bad = templates.read_all(tmp_path)
    assert (sorted(good), bad) == (["one", "two"], {})
    (tmp_path / "one.json").write_text("{")
    write(tmp_path, two=template(film(), "6", task_type="video_generation"))
    os.utime(tmp_path / "two.json", ns=(1, 1))
    good, bad = templates.read_all(tmp_path)
    assert {name: each.task_type for name, each in good.items()} == {"two": "video_generation"}
    assert list(bad) == ["one.json"]
    assert "not JSON" in bad["one.json"][0]


def test_the_hash_is_of_the_graph_alone():
    """Proves that the hash stays when members change places, and changes with any value."""
    other = dict(reversed(still().items()))
    assert graphs_sha(still()) == graphs_sha(other) != graphs_sha(still(seed=2))


def graphs_sha(graph):
    return parsed(template(graph, "3")).sha256


# -- graphs ---------------------------------------------------------------------------------------


def test_values_seed_and_prefix_are_set():
    """Proves that given values are written, others stay as saved, and the template is unchanged."""
    made = parsed(
        template(
            still(),
            "3",
            parameters={
                "seed": ["2", "seed"],
                "width": ["1", "width"],
                "strength": ["2", "strength"],
            },
        )
    )
    graph = filled(made, {"width": 128, "strength": 1})
    assert graph["1"]["inputs"] == {"width": 128, "height": 36, "batch_size": 1, "color": 0x285A8C}
    assert graph["2"]["inputs"]["seed"] == 7
    assert isinstance(graph["2"]["inputs"]["strength"], float)
    assert graph["3"]["inputs"]["filename_prefix"] == "task-1"
    assert made.workflow == still()


def test_a_seed_is_set_also_where_the_template_names_none():
    """Proves that no graph goes out with the seed it was saved with."""
    assert filled(parsed(template(still(), "3")))["2"]["inputs"]["seed"] == 7


def test_one_parameter_can_have_several_places():
    """Proves that a value goes to each place of a list of pairs."""
    places = [["1", "width"], ["1", "height"]]
    made = parsed(template(still(), "3", parameters={"width": places}))
    inputs = filled(made, {"width": 96})["1"]["inputs"]
    assert (inputs["width"], inputs["height"]) == (96, 96)


@pytest.mark.parametrize(
    ("converter", "seconds", "frames"),
    [
        ({"fps": 16, "step": 4}, 5, 81),  # as Wan asks for: 4 n + 1
        ({"fps": 16, "step": 4}, 5.1, 85),  # never shorter than what was asked for
        ({"fps": 24, "step": 8}, 4, 97),  # as LTX Video asks for: 8 n + 1
        ({"fps": 24, "extra": 0}, 1, 24),
        ({}, 2, 49),  # the rate of the workflow, 24
    ],
)
def test_seconds_become_frames(converter, seconds, frames):
    """Proves that frames are round(seconds * fps), brought up to a step, and one more."""
    document = template(
        film(),
        "6",
        parameters={"frames": ["1", "batch_size"], "fps": ["5", "fps"]},
        converters={"frames": {"from": "duration_s", **converter}},
    )
    graph = filled(parsed(document), {"duration_s": seconds})
    assert graph["1"]["inputs"]["batch_size"] == frames


def test_frames_follow_the_rate_of_the_task():
    """Proves that without a rate of the model's own, that of the task counts."""
    document = template(
        film(),
        "6",
        parameters={"frames": ["1", "batch_size"], "fps": ["5", "fps"]},
        converters={"frames": {"from": "duration_s"}},
    )
    graph = filled(parsed(document), {"duration_s": 2, "fps": 12})
    assert (graph["1"]["inputs"]["batch_size"], graph["5"]["inputs"]["fps"]) == (25, 12.0)


@pytest.mark.parametrize(("asked", "given"), [(1920, 1920), (1919, 1920), (700, 704), (3, 16)])
def test_sizes_become_multiples(asked, given):
    """Proves that a size becomes the nearest multiple, and never zero."""
    document = template(
        still(),
        "3",
        parameters={"width": ["1", "width"]},
        converters={"width": {"multiple_of": 16}},
    )
    assert filled(parsed(document), {"width": asked})["1"]["inputs"]["width"] == given


@pytest.mark.parametrize(
    ("value", "message"),
    [(10**6, "16..4096"), ("wide", "Must be a number"), (True, "Must be a number")],
)
def test_a_value_out_of_bounds_is_named(value, message):
    """Proves that a value outside the converter's bounds is refused under our name of it."""
    document = template(
        still(),
        "3",
        parameters={"width": ["1", "width"]},
        converters={"width": {"min": 16, "max": 4096}},
    )
    with pytest.raises(BadValue) as caught:
        filled(parsed(document), {"width": value})
    assert caught.value.parameter == "width"
    assert message in str(caught.value)


def test_an_input_that_was_not_given_takes_its_branch_along():
    """Proves that an unused first frame drops its loader and its scaling, and nothing else."""
    made = templates.parse("wan", WAN)
    graph = filled(made, {"prompt": "rain"})
    assert "start_image" not in graph["55"]["inputs"]
    assert set(made.workflow) - set(graph) == {"56", "57"}
    with_frame = filled(made, {}, {"first_frame": ["task-1/a.png"]})
    assert with_frame["56"]["inputs"]["image"] == "task-1/a.png"
    assert with_frame["55"]["inputs"]["start_image"] == ["57", 0]


def test_a_workflow_that_lives_on_its_input_cannot_do_without():
    """Proves that a task is refused whose missing input leaves nothing of the workflow."""
    made = templates.parse("restyle", (EXAMPLES / "restyle.json").read_bytes())
    assert made.needed_inputs == {"image"}
    with pytest.raises(BadValue, match="nothing is left"):
        filled(made)


def test_only_what_the_output_needs_is_sent():
    """Proves that previews and other ends of a graph are left out."""
    graph = still()
    graph["8"] = {"class_type": "PreviewImage", "inputs": {"images": ["1", 0]}}
    graph["9"] = {
        "class_type": "SaveImage",
        "inputs": {"images": ["1", 0], "filename_prefix": "x"},
    }
    assert set(filled(parsed(template(graph, "3")))) == {"1", "2", "3"}


def test_a_prompt_stays_a_text():
    """Proves that a prompt is written as it is, whatever stands in it, and never becomes a link."""
    made = templates.parse("sdxl", (EXAMPLES / "sdxl.json").read_bytes())
    prompt = '["4", 0] {"class_type": "x"} \u2028 "'
    assert filled(made, {"prompt": prompt})["6"]["inputs"]["text"] == prompt
    with pytest.raises(BadValue, match="Must be a text"):
        filled(made, {"prompt": ["4", 0]})
    assert orjson.loads(orjson.dumps(made.workflow)) == made.workflow
