"""Which node of a saved workflow is the prompt, the seed, the size, the output? An educated guess.

Classes of nodes and the titles that a studio gave them tell most of it. Everything that was guessed
is said, and what was found twice is left to the author.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from tasks_app.providers.comfyui import graphs, templates
from tasks_app.providers.comfyui.templates import Field, Graph, is_link

#: Ends of the output nodes' class names, and the task type that they make.
OUTPUTS = (
    ("SaveVideo", "video_generation"),
    ("VideoCombine", "video_generation"),
    ("SaveWEBM", "video_generation"),
    ("SaveAudio", "audio_generation"),
    ("SaveAudioMP3", "audio_generation"),
    ("SaveAudioOpus", "audio_generation"),
    ("SaveImage", "image_generation"),
)
TEXTS = ("text", "prompt", "value", "string")
NEGATIVE_WORDS = ("negative", "neg prompt", "avoid")
#: Inputs that say how many frames a clip has, and those that say how many a second.
FRAMES = ("length", "frames", "num_frames", "video_frames", "frame_count")
FPS = ("fps", "frame_rate")
#: What a loader's class or title says of the input that it loads.
LOADERS = (
    (("last", "end frame"), "last_frame"),
    (("mask",), "mask"),
    (("reference", "style"), "reference_images"),
)
#: Steps of a model's frames, by a part of the classes that make its latents.
FRAME_STEPS = (("Wan", 4), ("Hunyuan", 4), ("LTXV", 8), ("Cosmos", 8))
SIZE_STEPS = (("Wan", 16), ("Hunyuan", 16), ("LTXV", 32), ("EmptyLatent", 8), ("EmptySD3", 16))


@dataclass
class Guess:
    """A template's document, what was guessed for it, and what its author must still decide."""

    document: dict[str, Any]
    guessed: list[str] = field(default_factory=list)
    left: list[str] = field(default_factory=list)


def template_of(graph: Graph, task_type: str = "", output: str = "") -> Guess:
    """Return a template made from a saved API graph.

    Args:
        task_type, output: say them where there is a choice.

    Raises:
        BadTemplate: it is not such a graph.
    """
    if problem := templates.graph_problem(graph):
        raise templates.BadTemplate([problem])
    if output and output not in graph:
        raise templates.BadTemplate([f"There is no node {output}."])
    guess = Guess({})
    output = output or _output(graph, task_type, guess)
    if not output:
        raise templates.BadTemplate(["No node saves a result: add a SaveImage or SaveVideo node."])
    task_type = task_type or _type_of(graph[output])
    parameters: dict[str, Any] = {}
    converters: dict[str, Any] = {}
    files: dict[str, Any] = {}
    needed = graphs.needed_by(graph, output)
    for name, fields, why in _guesses(needed, task_type, guess):
        parameters[name] = _as_json(fields)
        guess.guessed.append(f"{name}: {_places(fields)} ({why})")
    _convert(needed, parameters, converters, guess)
    for name, fields in _loaders(needed, task_type):
        files[name] = _as_json(fields)
        guess.guessed.append(f"file {name}: {_places(fields)} (a loader)")
    vital = [name for name in files if _is_vital(graph, output, _pairs(files[name]))]
    guess.guessed.append(f"output: node {output} ({graph[output]['class_type']})")
    guess.document = {
        "task_type": task_type,
        "parameters": parameters,
        "files": files,
        "converters": converters,
        "output": output,
        "requires": {"inputs": [*(name for name in ("prompt",) if name in parameters), *vital]},
        "workflow": graph,
    }
    if "prompt" not in parameters:
        guess.left.append('No prompt was found: add "prompt": ["node", "input"] to parameters.')
    if names := ", ".join(name for name in files if name not in vital):
        guess.left.append(f"If the workflow cannot do without {names}: add it to requires.inputs.")
    return guess


def _output(graph: Graph, task_type: str, guess: Guess) -> str:
    """Return the node that saves what the task type makes; a film before a picture beside it."""
    for ending, made in OUTPUTS:
        if task_type and made != task_type:
            continue
        found = [node for node, spec in graph.items() if spec["class_type"].endswith(ending)]
        if len(found) > 1:
            guess.left.append(
                f"There are {len(found)} nodes {ending}: {', '.join(found)}. Choose with --output."
            )
        if found:
            return found[-1]
    return ""


def _type_of(spec: dict[str, Any]) -> str:
    for ending, made in OUTPUTS:
        if spec["class_type"].endswith(ending):
            return made
    return "image_generation"


def _guesses(graph: Graph, task_type: str, guess: Guess) -> Iterator[tuple[str, list[Field], str]]:
    """Yield parameter, places and reason."""
    prompts, negatives = _prompts(graph, guess)
    if prompts:
        yield "prompt", prompts, "the text of what is made"
    if negatives:
        yield "negative_prompt", negatives, "the text of what is to be avoided"
    if seeds := graphs.seed_fields(graph):
        yield "seed", seeds, "all seeds are the same"
    for name in ("width", "height"):
        sizes = _written(graph, (name,))
        # The first latent or picture sets the size; a later scaling has a size of its own.
        makers = [each for each in sizes if _makes_size(graph[each.node])]
        if makers:
            yield name, makers, "the size of what is made"
    if task_type == "video_generation":
        frames = [each for each in _written(graph, FRAMES) if _makes_size(graph[each.node])]
        frames += [
            Field(node, "batch_size")
            for node, spec in graph.items()
            if spec["class_type"] == "EmptyImage" and not frames
        ]
        if frames:
            yield "frames", frames, "the number of frames"
        if rates := _written(graph, FPS):
            yield "fps", rates, "the frames of a second"
    if task_type != "image_generation" and (lengths := _written(graph, ("duration", "seconds"))):
        yield "duration_s", lengths, "the length of the sound"


def _prompts(graph: Graph, guess: Guess) -> tuple[list[Field], list[Field]]:
    """Return positive and negative prompts: by what they feed, then by their title."""
    texts = [
        Field(node, name)
        for node, spec in graph.items()
        for name in TEXTS
        if isinstance(spec["inputs"].get(name), str) and _is_text_node(spec)
    ]
    negative = {each for each in texts if _feeds(graph, each.node, "negative")}
    negative |= {
        each for each in texts if any(word in _title(graph[each.node]) for word in NEGATIVE_WORDS)
    }
    positive = [each for each in texts if each not in negative]
    fed = [each for each in positive if _feeds(graph, each.node, "positive")]
    titled = [each for each in positive if "prompt" in _title(graph[each.node])]
    chosen = fed or titled or positive
    if len(chosen) > 1 and len({_value(graph, each) for each in chosen}) > 1:
        others = ", ".join(each.node for each in chosen[1:])
        guess.left.append(f"Other texts that may belong to the prompt: nodes {others}.")
        chosen = chosen[:1]
    return chosen, sorted(negative, key=lambda each: each.node)


def _is_text_node(spec: dict[str, Any]) -> bool:
    kind = spec["class_type"]
    return "Text" in kind or "String" in kind or "Prompt" in kind or "prompt" in _title(spec)


def _feeds(graph: Graph, node: str, name: str) -> bool:
    """Say whether a node's output reaches an input of that name, over nodes in between.

    A node that has both inputs passes each on by itself, so the way ends at the first of them.
    """
    wanted, seen = [node], {node}
    while wanted:
        current = wanted.pop()
        for other, spec in graph.items():
            for key, value in spec["inputs"].items():
                if not is_link(value) or value[0] != current:
                    continue
                if key in ("positive", "negative"):
                    if key == name:
                        return True
                elif other not in seen:
                    seen.add(other)
                    wanted.append(other)
    return False


def _written(graph: Graph, names: tuple[str, ...]) -> list[Field]:
    """Return the numbers that are written under one of the names, not linked."""
    return [
        Field(node, name)
        for node, spec in graph.items()
        for name in names
        if isinstance(spec["inputs"].get(name), int | float)
    ]


def _makes_size(spec: dict[str, Any]) -> bool:
    """Say whether a node starts something: it scales and crops nothing."""
    kind = spec["class_type"]
    return not any(word in kind for word in ("Scale", "Resize", "Crop", "Upscale", "Pad"))


def _convert(
    graph: Graph, parameters: dict[str, Any], converters: dict[str, Any], guess: Guess
) -> None:
    """Add converters: frames from seconds, sizes to the model's multiples."""
    kinds = " ".join(spec["class_type"] for spec in graph.values())
    if "frames" in parameters:
        row: dict[str, Any] = {"from": "duration_s"}
        step = next((step for word, step in FRAME_STEPS if word in kinds), 1)
        is_batch = _pairs(parameters["frames"])[0][1] == "batch_size"
        row |= {"extra": 0} if is_batch else {"step": step}
        if "fps" not in parameters:
            row["fps"] = 24
            guess.left.append("frames: is 24 right? Say the model's frames of a second.")
        elif not is_batch:
            # The model's own rate: any other would only play its frames faster or slower.
            node, name = _pairs(parameters.pop("fps"))[0]
            row["fps"] = graph[node]["inputs"][name]
            guess.guessed.append(f"fps stays as saved: the model makes {row['fps']:g} a second")
        converters["frames"] = row
        guess.guessed.append(f"frames are made from duration_s: {row}")
    even = 2 if "Video" in kinds else 1  # H.264 asks for even sides
    multiple = next((step for word, step in SIZE_STEPS if word in kinds), even)
    for name in ("width", "height"):
        if name in parameters and multiple > 1:
            converters[name] = {"multiple_of": multiple}
            guess.guessed.append(f"{name} becomes a multiple of {multiple}")


def _loaders(graph: Graph, task_type: str) -> Iterator[tuple[str, list[Field]]]:
    """Yield the inputs that loader nodes take, each under the first name that fits it."""
    found: dict[str, list[Field]] = {}
    for node, spec in graph.items():
        kind = spec["class_type"]
        for key in ("image", "video", "file", "audio"):
            if not kind.startswith("Load") or not isinstance(spec["inputs"].get(key), str):
                continue
            found.setdefault(_input_name(kind, spec, task_type), []).append(Field(node, key))
    yield from found.items()


def _is_vital(graph: Graph, output: str, loaders: list[list[str]]) -> bool:
    """Say whether nothing is left of a graph without its loaders."""
    rest = {node: {**spec, "inputs": dict(spec["inputs"])} for node, spec in graph.items()}
    for node, _ in loaders:
        graphs.drop(rest, node)
    return output not in rest


def _input_name(kind: str, spec: dict[str, Any], task_type: str) -> str:
    if "Video" in kind:
        return "source_video"
    if "Audio" in kind:
        return "audio"
    said = f"{kind.lower()} {_title(spec)}"
    for words, name in LOADERS:
        if any(word in said for word in words):
            return name
    return "first_frame" if task_type == "video_generation" else "image"


def _title(spec: dict[str, Any]) -> str:
    meta = spec.get("_meta")
    return str(meta.get("title", "")).lower() if isinstance(meta, dict) else ""


def _value(graph: Graph, place: Field) -> Any:
    return graph[place.node]["inputs"][place.name]


def _as_json(fields: list[Field]) -> Any:
    pairs = [[each.node, each.name] for each in fields]
    return pairs[0] if len(pairs) == 1 else pairs


def _pairs(row: Any) -> list[list[str]]:
    return [row] if isinstance(row[0], str) else row


def _places(fields: list[Field]) -> str:
    return ", ".join(f"node {each.node} {each.name}" for each in fields)
