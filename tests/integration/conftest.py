"""Fixtures that several files here share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.refusals import Case
from tests.support.runs import federation


@pytest.fixture(scope="module")
def shared_case(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Case]:
    """One alliance for all of a file's refusals; :func:`case` brings it back to its beginning."""
    with federation(tmp_path_factory.mktemp("refusals")) as fed:
        case = Case(fed)
        yield case
        case.store.close()


@pytest.fixture
def case(shared_case: Case) -> Case:
    """Return the file's alliance as it was made."""
    shared_case.reset()
    return shared_case
