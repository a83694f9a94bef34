import base64

import pytest

from benchmarks.data.base import read_ranks


def test_a_file_with_too_few_ranks_is_an_error(tmp_path):
    path = tmp_path / "few.tiktoken"
    path.write_bytes(base64.b64encode(b"a") + b" 0\n")
    with pytest.raises(ValueError, match="holds 1 ranks"):
        read_ranks(path)
