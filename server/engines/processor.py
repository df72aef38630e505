"""The processor that graphs run on: its name, its instructions, and whether it computes bfloat16 itself."""

import platform
from dataclasses import dataclass
from pathlib import Path

CPUINFO = Path("/proc/cpuinfo")
# Linux's names of the instructions that multiply bfloat16. Without them a library converts each value, which is slower
# than float32.
BF16_FLAGS = frozenset({"amx_bf16", "avx512_bf16"})
# Values of oneDNN's ONEDNN_MAX_CPU_ISA below those instructions.
CAPS_WITHOUT_BF16 = frozenset(
    {"SSE41", "AVX", "AVX2", "AVX2_VNNI", "AVX2_VNNI_2", "AVX512_CORE", "AVX512_CORE_VNNI", "AVX10_1_256"}
)


@dataclass(frozen=True)
class Processor:
    """`flags`: the instruction sets that Linux lists; none on other systems."""

    name: str
    flags: frozenset[str]

    def computes_bf16(self, cap: str | None = None) -> bool:
        """Whether it multiplies bfloat16. `cap`: the value of ONEDNN_MAX_CPU_ISA, None if it is not set."""
        return bool(self.flags & BF16_FLAGS) and (cap or "").upper() not in CAPS_WITHOUT_BF16


def read_processor(cpuinfo: Path = CPUINFO) -> Processor:
    """The first processor of the machine; they are all of one kind."""
    try:
        lines = cpuinfo.read_text().splitlines()
    except OSError:
        lines = []
    fields: dict[str, str] = {}
    for line in lines:
        key, colon, value = line.partition(":")
        if colon:
            fields.setdefault(key.strip(), value.strip())
    # Linux calls them "flags" on x86 and "Features" on Arm, where there may be no name.
    flags = frozenset((fields.get("flags") or fields.get("Features") or "").split())
    return Processor(fields.get("model name") or platform.processor() or platform.machine(), flags)
