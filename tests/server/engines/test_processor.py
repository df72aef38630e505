"""What Linux says of a processor, on x86 and Arm and not at all, and who multiplies bfloat16."""

from pathlib import Path

import pytest

from server.engines.processor import Processor, read_processor

X86 = "processor\t: 0\nmodel name\t: A: fast one\nflags\t\t: fpu avx2 avx512_bf16\n\nmodel name\t: other\n"
ARM = "processor\t: 0\nBogoMIPS\t: 50.00\nFeatures\t: fp asimd bf16\n"


def test_the_first_processor_is_read_with_its_flags(tmp_path: Path) -> None:
    (tmp_path / "x86").write_text(X86)
    assert read_processor(tmp_path / "x86") == Processor("A: fast one", frozenset({"fpu", "avx2", "avx512_bf16"}))
    (tmp_path / "arm").write_text(ARM)
    assert read_processor(tmp_path / "arm").flags == {"fp", "asimd", "bf16"}
    missing = read_processor(tmp_path / "missing")
    assert missing.name
    assert missing.flags == frozenset()


@pytest.mark.parametrize(
    ("flags", "cap", "expected"),
    [
        ("avx2 avx512f", None, False),
        ("avx512f avx512_bf16", None, True),
        ("avx512f amx_bf16 amx_tile", None, True),
        ("asimd bf16", None, False),
        ("amx_bf16", "AVX2", False),
        ("amx_bf16", "avx512_core", False),
        ("amx_bf16", "AVX512_CORE_BF16", True),
        ("amx_bf16", "DEFAULT", True),
        ("avx2", "AVX512_CORE_AMX", False),
    ],
)
def test_bfloat16_needs_the_instructions_and_no_cap_below_them(flags: str, cap: str | None, expected: bool) -> None:
    assert Processor("p", frozenset(flags.split())).computes_bf16(cap) is expected
