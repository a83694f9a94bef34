import pytest

from benchmarks.ray_share import read_rate, summarise

LOG = """
(RayTrainWorker pid=7) mixed: 9.63 M parameters on 2 ranks (cpu, float32), loaded in 0.6 s; steps 0 to 30
mixed: step 10/30, loss 4.5000, lr 1.00e-03, grad norm 1.00, 900 tokens/s, ETA 60 s
mixed: step 20/30, loss 4.0000, lr 1.00e-03, grad norm 1.00, 1000 tokens/s, ETA 30 s
(RayTrainWorker pid=7) mixed: step 30/30, loss 3.0000, lr 1.00e-04, grad norm 1.00, 3000 tokens/s, ETA 0 s
"""


def make_run(side, pair, rate, wait_s):
    return {"side": side, "pair": pair, "tokens_per_s": rate, "parts_s": {"start": wait_s}, "first_step_s": wait_s + 1}


def test_the_warm_up_does_not_count_and_equal_work_is_averaged_over_its_time():
    assert read_rate(LOG) == 1500.0


def test_a_log_without_a_line_after_the_warm_up_is_an_error():
    with pytest.raises(RuntimeError, match="no progress line"):
        read_rate(LOG.replace("step 20/30", "").replace("step 30/30", ""))


def test_the_ratio_is_taken_pair_by_pair():
    runs = [make_run("ray", 0, 98.0, 20), make_run("torchrun", 0, 100.0, 8), make_run("torchrun", 1, 50.0, 9)]
    runs += [make_run("ray", 1, 50.0, 22), make_run("ray", 2, 99.0, 30), make_run("torchrun", 2, 100.0, 7)]
    figures = summarise(runs)
    assert figures["ratios"] == [0.98, 1.0, 0.99]
    assert figures["ray_over_torchrun"] == 0.99
    assert figures["parts_s"] == {"ray": {"start": 22}, "torchrun": {"start": 8}}
    assert figures["first_step_s"]["ray"] == 23
