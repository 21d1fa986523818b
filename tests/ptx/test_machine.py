"""The emulator itself: kernels by hand, numbers against torch, and planted mistakes, each of which is found."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from setup import find_nvcc
from tests.ptx.build import COMPILER, cached
from tests.ptx.machine import Buffer, Finding, Program, address
from tests.ptx.parse import Module

pytestmark = [
    pytest.mark.skipif(COMPILER is None or sys.platform != "linux", reason="needs a C++ compiler and Linux"),
    pytest.mark.slow,  # the first one compiles the core
]
THREADS = 256

# y[t] = f(x[t]) for the number t of a thread among all
ELEMENTWISE = """
.visible .entry kernel(.param .u64 x, .param .u64 y) .maxntid 256
{{
    .reg .pred %p<4>; .reg .b16 %h<4>; .reg .b32 %r<8>; .reg .b64 %a<8>; .reg .f32 %f<8>;
    mov.u32 %r1, %tid.x; mov.u32 %r2, %ctaid.x; mov.u32 %r3, %ntid.x;
    mad.lo.s32 %r4, %r2, %r3, %r1;
    ld.param.u64 %a1, [x]; ld.param.u64 %a2, [y];
    mul.wide.u32 %a3, %r4, {size_x}; add.s64 %a3, %a1, %a3;
    mul.wide.u32 %a4, %r4, {size_y}; add.s64 %a4, %a2, %a4;
    {code}
    ret;
}}
"""


def run(
    program: Program, x: np.ndarray, y: np.ndarray, blocks: int, more: bytes = b"", shared: int = 0
) -> list[Finding]:
    """Launch a kernel with the parameters x and y."""
    buffers = [Buffer(a.ctypes.data, a.nbytes, a.itemsize) for a in (x, y)]
    words = b"".join(address(k, b.host).to_bytes(8, "little") for k, b in enumerate(buffers)) + more
    parameters = words.ljust(program.entry.parameter_bytes, b"\0")
    return program.launch((blocks, 1, 1), THREADS, shared, parameters, buffers, seed=3)


def elementwise(code: str, x: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """The results of ``code`` on each element of x, which reads from [%a3] and writes to [%a4]."""
    y = torch.empty(len(x), dtype=dtype)
    text = ELEMENTWISE.format(code=code, size_x=x.itemsize, size_y=y.itemsize)
    bits = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}
    given, got = (a.view(bits[a.itemsize]).numpy() for a in (x, y))
    assert run(Program(Module(text).entry("kernel")), given, got, len(x) // THREADS) == []
    return y


def test_example() -> None:
    """Each lane adds its number and that of the lane beside it: 1 + 2 = 3."""
    code = """
    ld.global.f32 %f1, [%a3]; mov.b32 %r5, %f1;
    shfl.sync.bfly.b32 %r6, %r5, 1, 31, -1; mov.b32 %f2, %r6;
    add.f32 %f3, %f1, %f2; st.global.f32 [%a4], %f3;
    """
    x = torch.arange(1, THREADS + 1, dtype=torch.float32)
    y = elementwise(code, x, torch.float32)
    assert y[:4].tolist() == [3, 3, 7, 7]


def test_lanes_that_part_meet_again() -> None:
    """Odd lanes negate, even ones do not, and the instruction after the branch runs once for the warp."""
    code = """
    ld.global.f32 %f1, [%a3]; and.b32 %r5, %r1, 1; setp.eq.s32 %p1, %r5, 0;
    @%p1 bra $join; neg.f32 %f1, %f1;
    $join: st.global.f32 [%a4], %f1;
    """
    x = torch.arange(THREADS, dtype=torch.float32)
    assert torch.equal(elementwise(code, x, torch.float32), torch.where(torch.arange(THREADS) % 2 == 0, x, -x))


def test_pairs_of_floats() -> None:
    """Blackwell's instructions on two float32 in 64 bits: x x + x of both, rounded once."""
    code = "ld.global.b64 %a5, [%a3]; fma.rn.f32x2 %a6, %a5, %a5, %a5; st.global.b64 [%a4], %a6;"
    x = torch.randn(2 * THREADS)
    got = elementwise(code, x.view(torch.float64), torch.float64).view(torch.float32)
    assert torch.equal(got, (x.double() * x + x).float())


def test_copied_signs() -> None:
    """The sign of the first number and the size of the second, also of zeros."""
    code = "ld.global.f32 %f1, [%a3]; copysign.f32 %f2, %f1, 0fC0000000; st.global.f32 [%a4], %f2;"
    x = torch.arange(THREADS, dtype=torch.float32) - 5
    x[0] = -0.0
    assert torch.equal(elementwise(code, x, torch.float32), torch.tensor(2.0).copysign(x))


def test_sums_towards_zero() -> None:
    """1/3 added to each number, and cut off where it does not fit."""
    code = "ld.global.f32 %f1, [%a3]; add.rz.f32 %f2, %f1, 0f3EAAAAAB; st.global.f32 [%a4], %f2;"
    x = torch.arange(1, THREADS + 1, dtype=torch.float32)
    exact = x.double() + torch.tensor(1 / 3).double()
    nearest = exact.float()
    expected = torch.where(nearest > exact, nearest.nextafter(torch.tensor(0.0)), nearest)
    assert (expected != nearest).any()
    assert torch.equal(elementwise(code, x, torch.float32), expected)


def test_mixed_precision() -> None:
    """Blackwell's product of two bfloat16 and sum with a float32: x x + 1/3."""
    code = "ld.global.b16 %h1, [%a3]; fma.rn.f32.bf16 %f1, %h1, %h1, 0f3EAAAAAB; st.global.f32 [%a4], %f1;"
    x = torch.randn(THREADS, dtype=torch.bfloat16)
    assert torch.equal(elementwise(code, x, torch.float32), (x.double() * x.double() + torch.tensor(1 / 3)).float())


@pytest.mark.parametrize(("name", "dtype"), [("bf16", torch.bfloat16), ("f16", torch.float16)], ids=["bf16", "f16"])
def test_half_precision(name: str, dtype: torch.dtype) -> None:
    """Every half to float32, and float32 numbers of every size, and between two halves, to a half."""
    every = torch.arange(-(2**15), 2**15, dtype=torch.int16).view(dtype)
    widen = f"ld.global.b16 %h1, [%a3]; cvt.f32.{name} %f1, %h1; st.global.f32 [%a4], %f1;"
    wide = elementwise(widen, every, torch.float32)
    torch.testing.assert_close(wide, every.float(), rtol=0, atol=0, equal_nan=True)
    finite = every.float()[every.isfinite()]
    between = (finite.sort().values.double()[1:] + finite.sort().values.double()[:-1]).float() / 2
    numbers = torch.cat([finite, between, 10 ** torch.linspace(-45, 38, 2**15), torch.randn(2**15)])
    numbers = numbers[: len(numbers) // THREADS * THREADS]
    narrow = f"ld.global.f32 %f1, [%a3]; cvt.rn.{name}.f32 %h1, %f1; st.global.b16 [%a4], %h1;"
    assert torch.equal(elementwise(narrow, numbers, dtype), numbers.to(dtype))


def test_pairs_of_halves() -> None:
    """A comparison of two float16 in 32 bits has a predicate for each: 1 if the low one is negative, 2 if the high."""
    code = """
    ld.global.b32 %r5, [%a3]; setp.lt.f16x2 %p1|%p2, %r5, 0;
    selp.b32 %r6, 1, 0, %p1; selp.b32 %r7, 2, 0, %p2; or.b32 %r6, %r6, %r7; st.global.b32 [%a4], %r6;
    """
    x = torch.randn(THREADS, 2, dtype=torch.float16)
    expected = ((x < 0) * torch.tensor([1, 2])).sum(1).to(torch.int32)
    assert torch.equal(elementwise(code, x.view(torch.float32).flatten(), torch.int32), expected)


@pytest.mark.parametrize(("type_", "low", "high"), [("s8", -128, 127), ("u16", 0, 65535), ("s32", -(2**31), 2**31 - 1)])
def test_floats_to_integers(type_: str, low: int, high: int) -> None:
    """Rounded to zero, and the nearest number of the type where it is too large; NaN gives 0."""
    x = torch.cat([10 * torch.randn(THREADS - 5), torch.tensor([1e20, -1e20, torch.inf, -torch.inf, torch.nan])])
    code = f"ld.global.f32 %f1, [%a3]; cvt.rzi.{type_}.f32 %r5, %f1; st.global.b32 [%a4], %r5;"
    if type_ != "s32":  # registers of 16 bits
        widen = f"cvt.{'s' if type_[0] == 's' else 'u'}32.{type_} %r5, %h1"
        code = f"ld.global.f32 %f1, [%a3]; cvt.rzi.{type_}.f32 %h1, %f1; {widen}; st.global.b32 [%a4], %r5;"
    expected = x.double().nan_to_num(0, float(high), float(low)).trunc().clamp(low, high).to(torch.int32)
    assert torch.equal(elementwise(code, x, torch.int32), expected)


def test_the_highest_bit_and_the_bits_in_reverse() -> None:
    """How far the highest 1 is from the left, -1 of 0; 1 in reverse is -2^31."""
    code = "ld.global.b32 %r5, [%a3]; {} %r6, %r5; st.global.b32 [%a4], %r6;"
    x = torch.cat([torch.tensor([0, 1, -1, 5]), torch.randint(-(2**31), 2**31, (THREADS - 4,))]).to(torch.int32)
    digits = [f"{number & 0xFFFFFFFF:032b}" for number in x.tolist()]
    left = elementwise(code.format("bfind.shiftamt.u32"), x, torch.int32)
    assert left.tolist() == [text.find("1") for text in digits]
    reverse = elementwise(code.format("brev.b32"), x, torch.int32)
    assert [f"{number & 0xFFFFFFFF:032b}" for number in reverse.tolist()] == [text[::-1] for text in digits]


def test_the_largest_number_of_a_warp() -> None:
    """NaN does not count unless all numbers are NaN, and 0 is above -0; the instruction of sm_100."""
    x = torch.randn(THREADS).view(-1, 32)
    x[0, 3], x[1], x[2, ::2], x[2, 1::2] = torch.nan, torch.nan, 0.0, -0.0
    code = "ld.global.f32 %f1, [%a3]; mov.b32 %r5, %f1; redux.sync.{}.f32 %r6, %r5, -1; st.global.b32 [%a4], %r6;"
    for name, reduced in (("max", x.nan_to_num(-9.0).amax(1)), ("min", x.nan_to_num(9.0).amin(1))):
        reduced[1], reduced[2] = torch.nan, 0.0 if name == "max" else -0.0
        got = elementwise(code.format(name), x.flatten(), torch.float32).view(-1, 32)
        expected = reduced.unsqueeze(1).expand_as(got).contiguous()
        assert torch.equal(got.nan_to_num(7.0).view(torch.int32), expected.nan_to_num(7.0).view(torch.int32))
    with pytest.raises(ValueError, match=r"need redux\.sync of an operation and a type alone"):
        elementwise(code.format("max.NaN"), x.flatten(), torch.float32)


def test_what_is_not_known_is_an_error() -> None:
    text = ELEMENTWISE.format(code="tanh.approx.f32 %f1, %f2;", size_x=4, size_y=4)
    with pytest.raises(ValueError, match=r"^PTX: got 'tanh.approx.f32 %f1, %f2', but tanh.approx.f32 is not in"):
        Program(Module(text).entry("kernel"))


def test_bytes_of_a_copy_in_hexadecimal() -> None:
    """LLVM writes the size of an asynchronous copy so, as in the kernels of 300 columns."""
    for size in ("16", "0x10"):
        code = f"cp.async.cg.shared.global [%r5], [%a3], {size}, %r6;"
        entry = Module(ELEMENTWISE.format(code=code, size_x=4, size_y=4)).entry("kernel")
        assert [i.size for i in entry.code if i.name == "copy_later"] == [16]


def test_contraction() -> None:
    """A product and a sum become one instruction, which rounds once; .rn forbids it."""
    for product, name in (("mul.f32", "fma.f32"), ("mul.rn.f32", "add.f32")):
        code = f"{product} %f3, %f1, %f2; add.f32 %f4, %f3, %f1; st.global.f32 [%a4], %f4;"
        entry = Module(ELEMENTWISE.format(code=code, size_x=4, size_y=4)).entry("kernel")
        assert Program(entry, fused=True).code[-3].name == name


PLANTED = {
    "good": set(),
    "divergent": set(),
    "no_barrier": {"race of warps in shared memory: read, write", "race of warps in shared memory: write, read"},
    "no_warp_barrier": {"lanes of a warp without barrier: write, read"},
    "lanes_differ": {"lanes of a warp store different values to one place at once"},
    "barrier_of_some": {"barrier of a block after warps have left"},
    "past_the_end": {"out of bounds, global load"},
    "undefined_shared": {"undefined value stored to global memory"},
    "blocks_overlap": {"race between blocks: write, write"},
    "misaligned": {"misaligned"},
    "copied": set(),
    "copied_in_groups": set(),
    "copy_of_an_open_group": {"undefined value stored to global memory"},
    "copy_read_too_early": {"undefined value stored to global memory"},
    "copy_without_warp_barrier": {"lanes of a warp without barrier: write, read"},
    "copy_overwrites": {"store to where a copy has yet to land"},
    "copy_of_what_changes": {"store to where a copy has yet to read"},
    "copy_not_awaited": {"copy that nobody waits for"},
    "copy_past_the_end": {"out of bounds, global load"},
}  # fmt: skip


@pytest.fixture(scope="module")
def planted() -> Module:
    """The PTX of planted.cu."""
    nvcc, source = find_nvcc(), Path(__file__).with_name("planted.cu")
    if nvcc is None:
        pytest.skip("nvcc is not found: kernels with planted mistakes are not compiled")

    def compile_(path: Path) -> None:
        subprocess.run([nvcc, "-arch=sm_90", "-ptx", "-O3", "-lineinfo", str(source), "-o", str(path)], check=True)

    return Module(cached("planted.ptx", [source], compile_).read_text())


@pytest.mark.parametrize("name", PLANTED)
def test_planted_mistakes_are_found(name: str, planted: Module) -> None:
    """Each mistake is found, and nothing in the kernels without one."""
    x = np.random.default_rng(0).random(512, np.float32)
    y = np.full_like(x, np.nan)
    program = Program(planted.entry(name))
    found = {f.kind for f in run(program, x, y, 2, (512).to_bytes(4, "little"), planted.static_shared)}
    assert found >= PLANTED[name]
    assert bool(found) == bool(PLANTED[name]), found


def test_results_of_good_kernels(planted: Module) -> None:
    """As NumPy computes them: numbers of a block in reverse; a loop that lanes leave at different times."""
    x = np.random.default_rng(0).random(512, np.float32)
    for name in ("good", "copied"):
        y = np.full_like(x, np.nan)
        run(Program(planted.entry(name)), x, y, 2, shared=planted.static_shared)
        assert np.array_equal(y, x.reshape(2, 256)[:, ::-1].ravel())
    v, third = x.astype(np.float64), np.arange(512) % 256 % 3 == 0
    for _ in range(37):
        runs = v < 100
        v = np.where(runs, np.float32(v * np.float32(1.7) + 1), v)
        v = np.where(runs & third, np.float32(v + 2), v)
    run(Program(planted.entry("divergent")), x, y, 2)
    np.testing.assert_allclose(y, v + v.reshape(-1, 32)[:, np.arange(32) ^ 5].ravel(), rtol=1e-6)
