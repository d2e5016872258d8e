"""What do a ComfyUI's weightless nodes make? Real pictures, sound and films, without ComfyUI.

Their names, inputs and bounds are those of a real 0.3.64; how they draw is of no account here.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import av
import numpy as np
from PIL import Image, ImageFilter, ImageOps

SIZE = ("INT", {"default": 512, "min": 1, "max": 16384, "step": 1})
SIDE = ("INT", {"default": 512, "min": 0, "max": 16384, "step": 1})
WORD = ("STRING", {"default": "ComfyUI"})
SEED = ("INT", {"default": 0, "min": 0, "max": 2**64 - 1})
AUDIO_SIZE = 1024


@dataclass
class Place:
    """Where a server keeps its files."""

    folder: Path

    def next_name(self, prefix: str, extension: str) -> str:
        """Return the next free name of the output folder, as ComfyUI counts them."""
        number = len(list((self.folder / "output").glob(f"{prefix}_*"))) + 1
        return f"{prefix}_{number:05}_{extension}"

    def output(self, name: str) -> Path:
        """Return the path of a file to write."""
        return self.folder / "output" / name

    def saved(self, name: str, *, is_animated: bool = False, kind: str = "images") -> dict:
        """Return what a save node says of a file."""
        row: dict = {kind: [{"filename": name, "subfolder": "", "type": "output"}]}
        return row | ({"animated": [True]} if is_animated else {})


def empty_image(place: Place, width: int, height: int, batch_size: int, color: int) -> list:
    rgb = (color >> 16 & 255, color >> 8 & 255, color & 255)
    return [Image.new("RGB", (width, height), rgb) for _ in range(batch_size)]


def load_image(place: Place, image: str) -> list:
    return [Image.open(place.folder / "input" / image).convert("RGB")]


def scale(place: Place, image: list, upscale_method: str, width: int, height: int, crop: str):
    return [each.resize((width, height)) for each in image]


def add_noise(place: Place, image: list, seed: int, strength: float) -> list:
    rng = np.random.default_rng(seed)
    made = []
    for each in image:
        noise = rng.integers(-40, 40, (each.height, each.width, 3)) * strength
        made.append(Image.fromarray((np.asarray(each) + noise).clip(0, 255).astype("uint8")))
    return made


def blur(place: Place, image: list, blur_radius: int, sigma: float) -> list:
    return [each.filter(ImageFilter.GaussianBlur(blur_radius)) for each in image]


def blend(place: Place, image1: list, image2: list, blend_factor: float, blend_mode: str) -> list:
    return [
        Image.blend(one, other.resize(one.size), blend_factor)
        for one, other in zip(image1, image2, strict=False)
    ]


def save_image(place: Place, images: list, filename_prefix: str) -> dict:
    rows = []
    for image in images:
        name = place.next_name(filename_prefix, ".png")
        image.save(place.output(name))
        rows += place.saved(name)["images"]
    return {"images": rows}


def preview(place: Place, images: list) -> dict:
    name = f"ComfyUI_temp_{random.randrange(10**6)}.png"
    return {"images": [{"filename": name, "subfolder": "", "type": "temp"}]}


def empty_audio(place: Place, duration: float, sample_rate: int, channels: int) -> tuple:
    seconds = np.arange(int(duration * sample_rate)) / sample_rate
    wave = (np.sin(seconds * 440 * 6.28) * 3000).astype("int16")
    return np.tile(wave, (channels, 1)), sample_rate


def create_video(place: Place, images: list, fps: float, audio: tuple | None = None) -> tuple:
    return images, fps, audio


def save_video(place: Place, video: tuple, filename_prefix: str, format: str, codec: str) -> dict:
    images, fps, audio = video
    name = place.next_name(filename_prefix, ".mp4")
    with av.open(str(place.output(name)), "w") as film:
        stream = film.add_stream("h264", rate=round(fps))
        stream.width, stream.height = images[0].size
        stream.pix_fmt = "yuv420p"
        sound = film.add_stream("aac", rate=audio[1], layout="stereo") if audio else None
        for image in images:
            film.mux(stream.encode(av.VideoFrame.from_image(image)))
        film.mux(stream.encode(None))
        if sound is not None and audio is not None:
            _add_sound(film, sound, audio)
    return place.saved(name, is_animated=True)


def save_audio(place: Place, audio: tuple, filename_prefix: str) -> dict:
    name = place.next_name(filename_prefix, ".flac")
    with av.open(str(place.output(name)), "w") as file:
        stream = file.add_stream("flac", rate=audio[1], layout="stereo")
        _add_sound(file, stream, audio)
    return place.saved(name, kind="audio")


def _add_sound(film: Any, stream: Any, audio: tuple) -> None:
    samples, rate = audio
    samples = samples if len(samples) == 2 else np.repeat(samples, 2, axis=0)
    interleaved = np.ascontiguousarray(samples.T).reshape(1, -1)
    frame = av.AudioFrame.from_ndarray(interleaved, format="s16", layout="stereo")
    frame.sample_rate = rate
    film.mux(stream.encode(frame))
    film.mux(stream.encode(None))


@dataclass(frozen=True)
class Kind:
    """A class of nodes: what it takes, and how it works."""

    run: Callable[..., Any]
    required: dict[str, tuple]
    optional: dict[str, tuple]
    is_output: bool = False


NO_MODELS: list[str] = []
SAMPLERS, SCHEDULERS = ["euler", "dpmpp_2m"], ["normal", "karras"]


def _no_weights(place: Place, **inputs: Any) -> Any:
    raise RuntimeError("there are no weights here")


KINDS = {
    "EmptyImage": Kind(
        empty_image,
        {
            "width": SIZE,
            "height": SIZE,
            "batch_size": ("INT", {"default": 1, "min": 1, "max": 4096}),
            "color": ("INT", {"default": 0, "min": 0, "max": 0xFFFFFF}),
        },
        {},
    ),
    "LoadImage": Kind(load_image, {"image": ([], {"image_upload": True})}, {}),
    "ImageScale": Kind(
        scale,
        {
            "image": ("IMAGE",),
            "upscale_method": (["nearest-exact", "bilinear", "area", "bicubic", "lanczos"],),
            "width": SIDE,
            "height": SIDE,
            "crop": (["disabled", "center"],),
        },
        {},
    ),
    "ImageInvert": Kind(
        lambda place, image: [ImageOps.invert(each) for each in image], {"image": ("IMAGE",)}, {}
    ),
    "ImageBatch": Kind(
        lambda place, image1, image2: [*image1, *image2],
        {"image1": ("IMAGE",), "image2": ("IMAGE",)},
        {},
    ),
    "ImageBlend": Kind(
        blend,
        {
            "image1": ("IMAGE",),
            "image2": ("IMAGE",),
            "blend_factor": ("FLOAT", {"default": 0.5, "min": 0.0, "max": 1.0}),
            "blend_mode": (["normal", "multiply", "screen"],),
        },
        {},
    ),
    "ImageBlur": Kind(
        blur,
        {
            "image": ("IMAGE",),
            "blur_radius": ("INT", {"default": 1, "min": 1, "max": 31}),
            "sigma": ("FLOAT", {"default": 1.0, "min": 0.1, "max": 10.0}),
        },
        {},
    ),
    "ImageAddNoise": Kind(
        add_noise,
        {
            "image": ("IMAGE",),
            "seed": SEED,
            "strength": ("FLOAT", {"default": 0.5, "min": 0.0, "max": 1.0}),
        },
        {},
    ),
    "SaveImage": Kind(
        save_image, {"images": ("IMAGE",), "filename_prefix": WORD}, {}, is_output=True
    ),
    "PreviewImage": Kind(preview, {"images": ("IMAGE",)}, {}, is_output=True),
    "EmptyAudio": Kind(
        empty_audio,
        {
            "duration": ("FLOAT", {"default": 60.0, "min": 0.0, "max": 1e9}),
            "sample_rate": ("INT", {"default": 44100, "min": 1, "max": 192000}),
            "channels": ("INT", {"default": 2, "min": 1, "max": 2}),
        },
        {},
    ),
    "SaveAudio": Kind(
        save_audio, {"audio": ("AUDIO",), "filename_prefix": WORD}, {}, is_output=True
    ),
    "CreateVideo": Kind(
        create_video,
        {"images": ("IMAGE",), "fps": ("FLOAT", {"default": 30.0, "min": 1.0, "max": 120.0})},
        {"audio": ("AUDIO",)},
    ),
    "SaveVideo": Kind(
        save_video,
        {
            "video": ("VIDEO",),
            "filename_prefix": WORD,
            "format": ("COMBO", {"options": ["auto", "mp4"]}),
            "codec": ("COMBO", {"options": ["auto", "h264"]}),
        },
        {},
        is_output=True,
    ),
    "CheckpointLoaderSimple": Kind(_no_weights, {"ckpt_name": (NO_MODELS,)}, {}),
}


def object_info(name: str) -> dict:
    """Return what a server says of a class of nodes."""
    kind = KINDS[name]
    inputs = {"required": kind.required, "optional": kind.optional}
    return {"input": inputs, "name": name, "display_name": name, "output_node": kind.is_output}


def faults(node: dict) -> list[dict]:
    """Return what validation finds in one node, in the form of the answer's ``errors``."""
    kind, found = KINDS[node["class_type"]], []
    for name in kind.required:
        if name not in node["inputs"]:
            found.append(_fault("required_input_missing", "Required input is missing", name, name))
    for name, value in node["inputs"].items():
        spec = (kind.required | kind.optional).get(name)
        if spec is None or isinstance(value, list) or "image_upload" in str(spec):
            continue
        found += _value_faults(name, value, spec)
    return found


def _value_faults(name: str, value: Any, spec: tuple) -> list[dict]:
    kind, config = spec[0], spec[1] if len(spec) > 1 else {}
    choices = kind if isinstance(kind, list) else config.get("options")
    if choices is not None:
        details = f"{name}: '{value}' not in {choices}"
        return (
            []
            if value in choices
            else [_fault("value_not_in_list", "Value not in list", details, name)]
        )
    if kind in ("INT", "FLOAT"):
        try:
            number = float(value)
        except (TypeError, ValueError):
            return [_fault("invalid_input_type", "Failed to convert an input value", name, name)]
        if number > config.get("max", number):
            text = f"Value {value} bigger than max of {config['max']}"
            return [_fault("value_bigger_than_max", text, name, name)]
        if number < config.get("min", number):
            text = f"Value {value} smaller than min of {config['min']}"
            return [_fault("value_smaller_than_min", text, name, name)]
    return []


def _fault(kind: str, message: str, details: str, name: str) -> dict:
    extra = {"input_name": name, "input_config": [], "received_value": ""}
    return {"type": kind, "message": message, "details": details, "extra_info": extra}
