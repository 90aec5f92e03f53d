"""Of an elastic cluster's workers as many train as the batch divides by; the others leave."""

from rank_jobs import final_tensors
from resume_checks import assert_bit_equal, params, straight_runs
from spare_jobs import first_of, train_or_leave


def test_the_first_ranks_work(gloo_pool):
    answers = gloo_pool.run(first_of, 3, 2)
    assert [works for works, _ in answers] == [True, True, False]
    assert [size for _, size in answers][:2] == [2, 2]
    assert gloo_pool.run(first_of, 2, 2) == [(True, 2), (True, 2)]


def test_three_ranks_end_like_two(gloo_pool, tiny_shards, tmp_path, tmp_path_factory):
    straight = straight_runs(gloo_pool, tiny_shards, tmp_path_factory, 2)[2]
    answers = gloo_pool.run(train_or_leave, 3, params(), tiny_shards, tmp_path)
    assert [(joined, done) for joined, done, _ in answers] == [
        (True, True),
        (True, True),
        (False, False),
    ]
    lines = [said for _, _, said in answers]
    assert lines[0][0] == "3 workers are there; a batch of 8 divides by 2"
    assert lines[0][1].startswith("2 worker(s)")
    assert lines[2] == []
    tensors, state = final_tensors(tmp_path)
    assert_bit_equal(straight[0], tensors)
    assert state == straight[1]
