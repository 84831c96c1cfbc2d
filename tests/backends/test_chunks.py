import pytest
from singlepass_backends.generation.chunks import ChunkSize, chunk_seconds


@pytest.mark.parametrize(
    ("learned", "n_batch", "n_left", "expected"),
    [
        ([], 512, 1000, 96),
        ([], 512, 20, 20),
        ([], 512, 112, 112),  # a short rest joins the last chunk
        ([], 512, 113, 96),
        ([(64, 1.0)], 512, 1000, 96),
        ([(64, 10.0)], 512, 1000, 96),
        ([(100, 0.5), (100, 0.25)], 512, 1000, 128),
        ([(64, 0.1)], 512, 1000, 320),
        ([(64, 0.001)], 512, 1000, 512),
        ([(64, 0.001)], 16, 1000, 16),
        ([(8, 100.0)], 512, 1000, 96),  # a tiny chunk says nothing
    ],
)
def test_next_chunk(learned: list[tuple[int, float]], n_batch: int, n_left: int, expected: int) -> None:
    chunks = ChunkSize(n_batch)
    for n_tokens, seconds in learned:
        chunks.learn(n_tokens, seconds)
    assert chunks.next(n_left, 0.5) == expected


def test_a_request_takes_larger_chunks_than_a_prewarm() -> None:
    chunks = ChunkSize(512)
    chunks.learn(100, 0.5)
    sizes = [
        chunks.next(1000, chunk_seconds(is_request=is_request, can_stop=can_stop))
        for can_stop in (False, True)
        for is_request in (False, True)
    ]
    assert sizes == [96, 288, 288, 512]
