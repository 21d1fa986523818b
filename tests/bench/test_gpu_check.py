"""The jobs of the GPU check: their order, what is wrong with their results, and what was not run."""

from __future__ import annotations

import time

import pytest

from bench import gpu_contests, gpu_jobs
from bench.gpu_pool import Failure
from mannkern.benchmark import contestants
from mannkern.benchmark.contestants import Contestant
from mannkern.triton.tiling import FEW_EPISODES
from mannkern.verification.accuracy import Error
from mannkern.verification.checks import Check, Outcome, run
from tests.gpu import checks, sanitizer

CHECK = Check("lrua", "triton", "cuda", "float32", "step", "step, odd", seed=0)
JOB = ("verify", "triton lrua_step float32", run, (CHECK,))
LARGE = ("compile", "large, training, B = 9", run, ("large", "training", 9, "cuda"))


def test_example() -> None:
    """A check that holds, one that fails, a row of verify with one right and one wrong check, and one not run."""
    right, wrong = (Outcome({"read": Error(error, 1e-6)}, 1.0) for error in (1e-7, 1e-3))
    found = [
        (("checks", "split_batch", run, ()), {"split_batch": "holds"}),
        (("checks", "equal_slots", run, ()), {"equal_slots": "AssertionError: N = 128"}),
        (("checks", "modules", run, ()), gpu_jobs.UNFINISHED),
        *((JOB, outcome) for outcome in (right, wrong, gpu_jobs.UNFINISHED)),
        (("bench", "step", run, ()), (["triton"], [{"name": "cuda", "reason": "differs"}], True)),
        (LARGE, gpu_jobs.UNFINISHED),  # the timing compiles then
    ]
    content = gpu_jobs.summary(found)
    assert content["checks"]["modules"] == "not run: no time was left"
    assert content["verify"][0]["of_checks"] == [2, 3]
    assert content["may_be_timed"] == {"step": ["triton"]}
    assert gpu_jobs.failures(content) == [
        "check equal_slots",
        "verify triton lrua_step float32: read of step, odd",
        "bench: a contestant of step differs from the reference",
    ]
    assert gpu_jobs.not_run(content) == ["checks modules", "verify triton lrua_step float32: 2 of 3 checks"]
    assert gpu_jobs.finished(found) == {"checks split_batch", "checks equal_slots", "bench step"}


def test_a_process_that_ended_is_a_failure() -> None:
    """Also while it compiled ahead; and nothing of it counts as right. It is not what was not run."""
    died = Failure("its process ended with exit code -6")
    found = [(job, died) for job in (JOB, ("bench", "mann", run, ()), LARGE)]
    content = gpu_jobs.summary(found)
    assert gpu_jobs.failures(content) == [f"crashed: {job[0]} {job[1]}: {died.why}" for job, _ in found]
    assert gpu_jobs.not_run(content) == []
    assert content["may_be_timed"] == {}
    assert gpu_jobs.finished(found) == {f"{job[0]} {job[1]}" for job, _ in found}


@pytest.mark.parametrize(
    ("good", "failed"),
    [
        (["triton", "compiled"], ["triton", "compiled"]),
        (["compiled"], ["compiled"]),  # why Triton cannot run at all is among those that are not timed
    ],
)
def test_who_does_not_compile_at_the_sizes_that_are_timed(good: list[str], failed: list[str]) -> None:
    found = [
        (("bench", "large", run, ()), (good, [], False)),
        (LARGE, {"triton": "OutOfResources: shared memory", "compiled": "OutOfResources: shared memory"}),
    ]
    content = gpu_jobs.summary(found)
    assert content["crashed"] == [f"{LARGE[0]} {LARGE[1]}: {name}: OutOfResources: shared memory" for name in failed]


def test_compiling_ahead_goes_on_behind_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """One has too little memory, which the other processes have; one does not compile; the reference has no need to."""
    log = []

    def entrant(name: str, error: Exception | None = None) -> Contestant:
        def build(problem: object) -> object:
            log.append(name)
            if error:
                raise error
            return list

        return Contestant(name, build, graph=True)  # type: ignore[arg-type]

    large = entrant("large", gpu_contests.torch.OutOfMemoryError("no memory"))
    entrants = [large, entrant("wrong", KeyError("a\nb")), entrant("reference"), entrant("good")]
    monkeypatch.setattr(contestants, "of", lambda workload, device: entrants)
    assert gpu_contests.compile_ahead("ntm", "ntm forward", 2, "cpu") == {"wrong": "KeyError: 'a\\nb'"}
    assert log == ["large", "wrong", "good"]


def test_what_a_gpu_alone_can_show_comes_first(monkeypatch: pytest.MonkeyPatch) -> None:
    """The order of the stages and of verify's backends. Triton's rows, whose compilers take longest, come last."""
    on_gpu = [("triton", "cuda"), ("cuda", "cuda")]
    monkeypatch.setattr(gpu_jobs, "available_backends", lambda devices: on_gpu)
    rows = lambda backend, device, seed: [("lrua_step", "float32", [CHECK._replace(backend=backend)] * 2)]  # noqa: E731
    monkeypatch.setattr(gpu_jobs, "rows_of", rows)
    jobs = gpu_jobs.jobs("cuda", ("checks", "verify", "bench"), ["mann"], tiny=False)
    order = [f"{stage} {name.split()[0]}" if stage == "verify" else stage for stage, name, *_ in jobs]
    assert list(dict.fromkeys(order)) == ["checks", "bench", "verify cuda", "compile", "verify triton"]
    assert len(order) == len(checks.CHECKS) - 2 + 1 + 2 + 2 + 2


def test_no_choice_of_a_large_checked_mann_depends_on_rounding() -> None:
    """Beyond FEW_EPISODES products take other blocks. In float64, usages before the second step are well apart."""
    training = gpu_contests.contests()["mann"].checked[-1]("cpu").double()
    assert training.sizes["B"] > FEW_EPISODES
    assert training.sizes["T"] == 2  # the first step chooses the first slots, since all usage is 0
    _, state = training.network.body(training.inputs[0][:1])
    usage, R = state.usage.sort(-1).values, training.sizes["R"]
    for i in (0, R - 1):  # the one that is erased, and the last one that is written to
        assert ((usage[:, i + 1] - usage[:, i]) / usage[:, i]).min() > 1e-5


def test_the_sanitizer_gets_the_time_that_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[float] = []
    monkeypatch.setattr(sanitizer, "sanitizer", lambda seconds: given.append(seconds))
    assert gpu_jobs.run_sanitizer(0) == {"sanitizer": gpu_jobs.UNFINISHED}
    assert gpu_jobs.run_sanitizer(7) == gpu_jobs.run_sanitizer(1e9) == {"sanitizer": "holds"}
    assert given == [7, sanitizer.SECONDS]


def test_a_machine_that_lacks_something_is_no_check_that_was_not_run() -> None:
    content = gpu_jobs.summary([])
    content["checks"] = {"sanitizer": "not run: needs compute-sanitizer", "modules": "not run: took more than 3 s"}
    assert gpu_jobs.not_run(content) == ["checks modules: took more than 3 s"]


@pytest.mark.slow
def test_jobs_in_processes(capsys: pytest.CaptureFixture[str]) -> None:
    """A job that raises and one that does not; both are named, as they come."""
    jobs = [("checks", "clock", time.strftime, ("%Y", "no time")), ("bench", "zone", time.gmtime, (0,))]
    (_, failed), (_, good) = gpu_jobs.run(jobs, time.monotonic() + 100)  # type: ignore[arg-type]
    assert failed.why.startswith("TypeError: ")
    assert good.tm_year == 1970
    assert sorted(capsys.readouterr().out.splitlines()) == ["bench, zone: done", f"checks, clock: {failed.why}"]
