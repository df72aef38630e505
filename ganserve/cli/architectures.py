"""`ganserve architectures`: the architectures whose checkpoints can be exported."""

from ganserve.cli.connect import JsonOption
from ganserve.cli.output import needing, print_json


def architectures(as_json: JsonOption = False) -> None:
    """Lists the supported architectures: names for --arch, training repositories, settings for --set."""
    with needing("export"):
        from models.catalogue import ARCHITECTURES

    if as_json:
        print_json(
            [
                {
                    "name": entry.name,
                    "reference": entry.reference,
                    "settings": {
                        name: {"default": setting.default, "choices": setting.choices, "meaning": setting.meaning}
                        for name, setting in entry.settings.items()
                    },
                }
                for entry in ARCHITECTURES.values()
            ]
        )
        return
    width = max(map(len, ARCHITECTURES))
    for entry in ARCHITECTURES.values():
        print(f"{entry.name:<{width}}  {entry.reference}")
        for name, setting in entry.settings.items():
            choices = f" ({'|'.join(setting.choices)})" if setting.choices else ""
            print(f"{'':<{width}}    --set {name}={setting.default}{choices}: {setting.meaning}")
