"""Cases 60 to 85: settings of one value."""

from managed import OK, Managed


def test_60_debug_can_be_switched_on(managed: Managed) -> None:
    assert managed.put("/debug", {"value": True}).told == OK
    assert managed.get("/debug").json == {"debug": True}
