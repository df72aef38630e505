"""The HTTP API's description, for tools that make clients and pages of it (OpenAPI 3.1)."""

from collections.abc import Mapping
from typing import Any

Schema = Mapping[str, Any]

_NAME = {"name": "model", "in": "path", "required": True, "schema": {"type": "string"}}
_VERSION = {"name": "version", "in": "path", "required": True, "schema": {"type": "string"}}
_REGION = {"name": "name", "in": "path", "required": True, "schema": {"type": "string"}}
_OBJECT: Schema = {"type": "object"}
_IMAGES = ("image/png", "image/jpeg", "image/webp")
_FORMAT: Schema = {"type": "string", "enum": ["png", "jpeg", "jpg", "webp", "raw"]}
_QUALITY: Schema = {"type": "integer", "description": "JPEG and WebP 1..100, PNG compression level 0..9"}

_BITS: Schema = {"type": "integer", "enum": [8, 16], "description": "of PNG and raw; default: those of the image"}
_IMAGE_PROPERTIES: Mapping[str, Schema] = {
    "image": {"type": "string", "contentEncoding": "base64"},
    "format": _FORMAT,
    "quality": _QUALITY,
    "bits": _BITS,
    "raw_width": {"type": "integer", "minimum": 1, "description": "of raw pixels, with raw_height"},
    "raw_height": {"type": "integer", "minimum": 1},
    "raw_bits": {"type": "integer", "enum": [8, 16], "description": "of raw pixels; 16: little-endian"},
    "alpha": {"type": "string", "enum": ["keep", "drop"]},
    "metadata": {"type": "string", "enum": ["icc", "keep", "strip"], "description": "of the sent image's"},
    "tta": {"type": "boolean", "description": "the mean of eight flipped and turned ways"},
    "version": {"type": "string"},
}
_SIZE_PROPERTIES: Mapping[str, Schema] = {
    "scale": {"type": "number", "exclusiveMinimum": 0, "description": "instead of the model's own"},
    "width": {"type": "integer", "minimum": 1, "description": "px; alone, the height follows"},
    "height": {"type": "integer", "minimum": 1, "description": "px; alone, the width follows"},
    "fit": {"type": "string", "enum": ["contain", "cover", "fill"], "description": "with width and height"},
    "resample": {"type": "string", "enum": ["lanczos", "area"], "description": "to the size"},
}

_SELECTION_PROPERTIES: Mapping[str, Schema] = {
    "best_of": {"type": "integer", "minimum": 1, "maximum": 64, "description": "candidates for each image"},
    "min_percentile": {"type": "number", "minimum": 0, "maximum": 100, "description": "that an image must have"},
    "drs_percentile": {"type": "number", "minimum": 0, "maximum": 100, "description": "rejection sampling: gamma"},
    "max_tries": {"type": "integer", "minimum": 1, "maximum": 64, "description": "with one of the two; default 16"},
}

_QUERY = [
    {"name": name, "in": "query", "schema": schema}
    for name, schema in {
        "seed": {"type": "integer", "minimum": 0, "maximum": 4294967295},
        "label": {"type": "string"},
        "psi": {"type": "number"},
        "noise_seed": {"type": "integer"},
        "edit": {"type": "array", "items": {"type": "string"}, "description": "DIRECTION:STRENGTH[@LAYERS]"},
        "mix": {"type": "array", "items": {"type": "string"}, "description": "SEED@LAYERS"},
        "then": {"type": "string", "description": "names of models, with commas"},
        **_SELECTION_PROPERTIES,
        "format": _FORMAT,
        "quality": _QUALITY,
        "version": {"type": "string"},
    }.items()
]
_LABELS: Mapping[str, Schema] = {
    "label": {"type": ["string", "integer"]},
    "labels": {
        "description": "attributes that the image shall have, an array or a text with commas",
        "type": ["array", "string"],
        "items": {"type": ["string", "integer"]},
    },
}

_STEP: Schema = {
    "type": "object",
    "required": ["model"],
    "additionalProperties": False,
    "properties": {"model": {"type": "string"}, "version": {"type": "string"}, **_LABELS},
}

_SEED: Schema = {"type": "integer", "minimum": 0, "maximum": 4294967295}
_EDIT: Schema = {
    "type": "object",
    "required": ["direction"],
    "additionalProperties": False,
    "properties": {
        "direction": {"type": ["string", "integer"], "description": "name or index, see /v1/models/{model}/directions"},
        "strength": {"type": "number", "minimum": -100, "maximum": 100, "description": "in standard deviations"},
        "strengths": {"type": "array", "items": {"type": "number"}},
        "layers": {"type": "string", "description": "of w, such as 0-3,6"},
        "without": {"type": "array", "items": {"type": ["string", "integer"]}},
    },
}
_TOWARD: Schema = {
    "type": "object",
    "additionalProperties": False,
    "required": ["seed"],
    "properties": {"seed": {"type": "integer"}, "share": {"type": "number", "minimum": 0, "maximum": 1}},
}
_STYLE: Mapping[str, Schema] = {
    "seed": {**_SEED, "description": "of the style, if the model takes styles; default 0"},
    "reference": {"type": "string", "contentEncoding": "base64", "description": "an image whose style is wanted"},
}
_MIX: Schema = {
    "type": "object",
    "required": ["layers"],
    "additionalProperties": False,
    "properties": {"seed": _SEED, "seeds": {"type": "array", "items": _SEED}, "layers": {"type": "string"}},
}

_SCHEMAS: Mapping[str, Schema] = {
    "Error": {"type": "object", "properties": {"error": {"type": "string"}}, "required": ["error"]},
    "GenerateRequest": {
        "type": "object",
        "description": "One of seed, seeds, count, latents, ws. Lists hold one value for all images or one for each.",
        "additionalProperties": False,
        "properties": {
            "seed": {"type": "integer", "minimum": 0, "maximum": 4294967295},
            "seeds": {"type": "array", "items": {"type": "integer"}},
            "count": {"type": "integer", "minimum": 1},
            "first_seed": {"type": "integer", "description": "of count"},
            "latents": {"type": "array", "items": {"type": "array", "items": {"type": "number"}}},
            "ws": {"type": "array", "description": "(n, w size) or (n, layers, w size)"},
            "label": {"type": ["string", "integer"]},
            "labels": {"type": "array", "items": {"type": ["string", "integer"]}},
            "truncation": {"type": "number"},
            "truncations": {"type": "array", "items": {"type": "number"}},
            "noise_seed": {"type": "integer"},
            "noise_seeds": {"type": "array", "items": {"type": "integer"}},
            "edits": {"type": "array", "items": _EDIT},
            "mixes": {"type": "array", "items": _MIX},
            "layer_truncations": {"type": "array", "items": {"type": "number"}, "description": "psi of each layer"},
            "truncation_cutoff": {"type": "integer", "description": "layers that truncation acts on; 0: all"},
            "towards": {"type": "array", "items": _TOWARD, "description": "places on the way to other seeds"},
            "truncation_center": {
                "type": ["string", "integer"],
                "description": "what truncation draws images towards: nearest, or a centre's number; default: the mean",
            },
            "translate": {"type": "array", "description": "[x, y], or one for each image: StyleGAN3's transform"},
            "rotate": {"type": ["number", "array"], "items": {"type": "number"}, "description": "degrees, likewise"},
            "size": {"type": "integer", "description": "px of the longer side of the images, which are resampled"},
            **_SELECTION_PROPERTIES,
            "return_w": {"type": "boolean", "description": "the reply is JSON, each image with its w"},
            "then": {
                "description": "models that the images go through next: super-resolution, image-to-image",
                "type": ["string", "array"],
                "items": {"anyOf": [{"type": "string"}, _STEP]},
            },
            "format": _FORMAT,
            "quality": _QUALITY,
            "version": {"type": "string"},
        },
    },
    "UpscaleRequest": {
        "type": "object",
        "additionalProperties": False,
        "required": ["image"],
        "properties": {**_IMAGE_PROPERTIES, **_SIZE_PROPERTIES},
    },
    "TranslateRequest": {
        "type": "object",
        "additionalProperties": False,
        "required": ["image"],
        "properties": {**_IMAGE_PROPERTIES, **_LABELS, **_STYLE},
    },
    "ScoreRequest": {
        "type": "object",
        "description": "image or images.",
        "additionalProperties": False,
        "properties": {
            "image": _IMAGE_PROPERTIES["image"],
            "images": {"type": "array", "items": _IMAGE_PROPERTIES["image"]},
            "label": _LABELS["label"],
            "labels": {"type": ["array", "string"], "items": {"type": ["string", "integer"]}},
            "fit": {"type": "string", "enum": ["cover", "fill"], "description": "images of another size are resized"},
            "version": {"type": "string"},
        },
    },
    "Images": {
        "type": "object",
        "properties": {
            "model": {"type": "string"},
            "version": {"type": "string"},
            "images": {
                "type": "array",
                "items": {
                    "type": "object",
                    "properties": {
                        "data": {"type": "string", "contentEncoding": "base64"},
                        "format": _FORMAT,
                        "width": {"type": "integer"},
                        "height": {"type": "integer"},
                        "channels": {"type": "integer"},
                        "bits": {"type": "integer"},
                        "seed": {"type": "integer"},
                        "label": {"type": "integer"},
                        "noise_seed": {"type": "integer"},
                        "choice": {"type": "object", "description": "score, percentile, candidates, accepted"},
                        "w": {"type": "array", "description": "(layers, w size), if return_w is set"},
                    },
                },
            },
            "timings": _OBJECT,
            "then": {"type": "array", "items": _OBJECT},
        },
    },
    "InferRequest": {
        "type": "object",
        "required": ["inputs"],
        "properties": {
            "id": {"type": "string"},
            "parameters": _OBJECT,
            "inputs": {
                "type": "array",
                "items": {
                    "type": "object",
                    "required": ["name", "shape", "datatype"],
                    "properties": {
                        "name": {"type": "string"},
                        "shape": {"type": "array", "items": {"type": "integer"}},
                        "datatype": {"type": "string"},
                        "parameters": _OBJECT,
                        "data": {"type": "array"},
                    },
                },
            },
            "outputs": {
                "type": "array",
                "items": {
                    "type": "object",
                    "required": ["name"],
                    "properties": {"name": {"type": "string"}, "parameters": _OBJECT},
                },
            },
        },
    },
}


def document(version: str) -> dict[str, Any]:
    """The whole description. `version`: ours."""
    paths: dict[str, dict[str, Any]] = {
        "/v2": {"get": _operation("Server metadata")},
        "/v2/health/live": {"get": _operation("200 if the process is live, else 503")},
        "/v2/health/ready": {"get": _operation("200 if requests may come, else 503")},
        "/v2/models/stats": {"get": _operation("Statistics of all models")},
        "/v2/repository/index": {"post": _operation("Models of the repository, with their states", body=_OBJECT)},
        "/v2/logging": _settings("Settings of the log"),
        "/v2/trace/setting": _settings("Settings of traces"),
        "/v2/models/{model}/trace/setting": _settings("Settings of a model's traces", [_NAME]),
        "/v1/models": {"get": _operation("All models, as the image API sees them")},
        "/v1/models/{model}": {"get": _operation("One model, as the image API sees it", [_NAME])},
        "/v1/models/{model}/directions": {"get": _operation("Directions that edits may name", [_NAME])},
        "/v1/models/{model}:generate": {
            "post": _operation("Images from seeds and labels", [_NAME], _ref("GenerateRequest"), images=True)
        },
    }
    at_url = _operation("An image at an address that caches may keep", [_NAME, *_QUERY], images=True)
    del at_url["responses"]["200"]["content"]["application/json"]
    at_url["responses"]["304"] = {"description": "the caller has it (If-None-Match)"}
    paths["/v1/models/{model}/image"] = {"get": at_url}
    for verb in ("load", "unload"):
        text = f"{verb.capitalize()}s a model, if model control is on"
        paths[f"/v2/repository/models/{{model}}/{verb}"] = {"post": _operation(text, [_NAME], _OBJECT)}
    for start, names in (("/v2/models/{model}", [_NAME]), ("/v2/models/{model}/versions/{version}", [_NAME, _VERSION])):
        paths[start] = {"get": _operation("Inputs and outputs of a model", names)}
        paths[f"{start}/ready"] = {"get": _operation("200 if the model serves, else 400", names)}
        paths[f"{start}/config"] = {"get": _operation("The model's config.pbtxt as JSON", names)}
        paths[f"{start}/stats"] = {"get": _operation("The model's statistics", names)}
        paths[f"{start}/infer"] = {"post": _operation("Tensors in, tensors out", names, _ref("InferRequest"))}
    paths |= _taking_images()
    for kind in ("systemsharedmemory", "cudasharedmemory"):
        for start, names in ((f"/v2/{kind}", []), (f"/v2/{kind}/region/{{name}}", [_REGION])):
            paths[f"{start}/status"] = {"get": _operation("Regions of shared memory", names)}
            paths[f"{start}/unregister"] = {"post": _operation("Forgets regions of shared memory", names)}
        path = f"/v2/{kind}/region/{{name}}/register"
        paths[path] = {"post": _operation("Registers a region of shared memory", [_REGION], _OBJECT)}
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "ganserve",
            "version": version,
            "description": "KServe v2 below /v2, as Triton serves it; images below /v1.",
        },
        "paths": paths,
        "components": {
            "schemas": dict(_SCHEMAS),
            "securitySchemes": {"key": {"type": "http", "scheme": "bearer"}},
        },
        "security": [{}, {"key": []}],
    }


def _taking_images() -> dict[str, Any]:
    """Addresses that an image is sent to."""
    paths: dict[str, Any] = {}
    for verb, text in (
        ("upscale", "An image, enlarged"), ("translate", "An image, translated"),
        ("score", "What the model's critic says of images"),
    ):  # fmt: skip
        request = _ref(f"{verb.capitalize()}Request")
        operation = _operation(text, [_NAME], request, images=verb != "score")
        content = operation["requestBody"]["content"]
        for media_type in (*_IMAGES, "application/octet-stream"):
            content[media_type] = {"schema": {"type": "string", "format": "binary"}}
        content["multipart/form-data"] = {"schema": request}
        if verb == "upscale":
            events = {"type": "string", "description": "events progress, data (base64), result, error"}
            operation["responses"]["200"]["content"]["text/event-stream"] = {"schema": events}
        paths[f"/v1/models/{{model}}:{verb}"] = {"post": operation}
    return paths


def _operation(
    summary: str, parameters: list[Any] | None = None, body: Schema | None = None, images: bool = False
) -> dict[str, Any]:
    content: dict[str, Any] = {"application/json": {"schema": _ref("Images") if images else _OBJECT}}
    if images:
        content |= {each: {"schema": {"type": "string", "format": "binary"}} for each in _IMAGES}
    operation: dict[str, Any] = {
        "summary": summary,
        "parameters": parameters or [],
        "responses": {
            "200": {"description": "done", "content": content},
            "default": {
                "description": "refused; the text says why",
                "content": {"application/json": {"schema": _ref("Error")}},
            },
        },
    }
    if body is not None:
        operation["requestBody"] = {"content": {"application/json": {"schema": body}}}
    return operation


def _settings(summary: str, parameters: list[Any] | None = None) -> dict[str, Any]:
    return {"get": _operation(summary, parameters), "post": _operation(f"{summary}, changed", parameters, _OBJECT)}


def _ref(name: str) -> dict[str, str]:
    return {"$ref": f"#/components/schemas/{name}"}
