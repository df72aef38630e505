"""How a model's images say that a network made them: the setting, or config.pbtxt's parameter.

parameters { key: "mark" value { string_value: "xmp" } }
"""

from tritonclient.grpc.model_config_pb2 import ModelConfig

from artifact.repository import CONFIG
from server.errors import NotServing
from server.images.marking import Mark
from server.settings import Settings

PARAMETER = "mark"


def read_mark(config: ModelConfig | None, settings: Settings) -> Mark:
    """Of one model.

    Raises:
        NotServing: the parameter has another value, or nothing is there to sign with.
    """
    if config is None or PARAMETER not in config.parameters:
        return Mark[settings.mark.upper()]
    value = str(config.parameters[PARAMETER].string_value)
    values = [each.name.lower() for each in Mark]
    if value not in values:
        raise NotServing(f"{CONFIG}: parameter {PARAMETER} {value[:80]!r} is not supported; {', '.join(values)} are")
    mark = Mark[value.upper()]
    if mark is Mark.C2PA and settings.c2pa_certificate is None:
        raise NotServing(f"{CONFIG}: parameter {PARAMETER} c2pa: the server has no c2pa_certificate to sign with")
    return mark
