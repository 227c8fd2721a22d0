"""Each conformance case of the management contract has a test that bears its number."""

import re
from pathlib import Path

TESTS = Path(__file__).parents[1]
CASES = range(1, 216)
NUMBERED = re.compile(r'def test_(\d{3})_|"(\d{3})["a-z -]|id="(\d{3})|\((\d{3}),')


def test_every_case_has_a_test() -> None:
    texts = [
        path.read_text()
        for path in (*TESTS.glob("management/*.py"), TESTS / "flows/test_accounts.py", TESTS / "gateway/test_gate.py")
    ]
    found = {int(next(filter(None, match))) for text in texts for match in NUMBERED.findall(text)}

    assert [case for case in CASES if case not in found] == []
