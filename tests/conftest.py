"""What holds for all tests."""

import pytest

# Before any test imports it: its assertions tell what they compared, as those of a test module do.
pytest.register_assert_rewrite("tests.store.conformance")
