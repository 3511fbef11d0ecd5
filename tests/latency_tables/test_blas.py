"""The number of threads of linear algebra."""

from __future__ import annotations

import pytest

from latency_tables import blas


def test_one_thread_inside_and_as_many_as_before_outside() -> None:
    functions = blas._thread_functions()
    if functions is None:
        pytest.skip("numpy has no OpenBLAS of its own")
    threads, set_threads = functions
    before = threads()
    try:
        set_threads(2)
        with pytest.raises(KeyError), blas.single_thread() as is_set:
            assert is_set and threads() == 1
            with blas.single_thread():
                assert threads() == 1
            assert threads() == 1
            raise KeyError
        assert threads() == 2
    finally:
        set_threads(before)


def test_another_library_keeps_its_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blas, "_thread_functions", lambda: None)
    with blas.single_thread() as is_set:
        assert not is_set
