import pytest

from forwarder.core.seams import DeadLetter
from forwarder.spool import dead_letter_match
from forwarder.spool.dead_letter_match import Match

EVENT = (
    b'{"name":"signup","user":{"email":"a@example.com","plan":null},"list":[{"id":7}],"payload":{"a.b":true,"n":1.5}}'
)


def letter(event: bytes = EVENT, status: int | None = 422) -> DeadLetter:
    return DeadLetter(
        sequence=1,
        event=event,
        batch_key=b"",
        reason="refused",
        status=status,
        answer="",
        attempts=1,
        accepted_at=0.0,
        died_at=10.0,
    )


@pytest.mark.parametrize(
    ("text", "fits"),
    [
        ("user.email=a@example.com", True),
        ("user.email=b@example.com", False),
        ("user.email", True),
        ("user.phone", False),
        ("user.plan=null", True),
        ("list[0].id=7", True),
        ("list[1].id", False),
        ('payload."a.b"=true', True),
        ("payload.a.b", False),
        ("payload.n=1.5", True),
        ("name=", False),
        ("name=a=b", False),
    ],
)
def test_a_condition_looks_at_a_path_inside_the_event(text: str, *, fits: bool) -> None:
    assert Match(where=(dead_letter_match.where(text),))(letter()) is fits


@pytest.mark.parametrize("text", ["", "=x", "a..b=1", "a[x]=1", 'a."b=1', "a[1"])
def test_a_path_that_is_none_is_an_error_that_shows_a_good_one(text: str) -> None:
    with pytest.raises(ValueError, match="expected a path"):
        dead_letter_match.where(text)


def test_filters_combine() -> None:
    assert Match(status=422, type="signup", reason="refused", since=10.0)(letter())
    assert not Match(status=400)(letter())
    assert not Match(status=422)(letter(status=None))
    assert not Match(type="login")(letter())
    assert not Match(since=10.5)(letter())
    assert Match(type="t")(letter(b'{"type":"t"}'))


def test_an_event_that_is_not_json_fits_no_condition_on_its_inside() -> None:
    assert not Match(type="signup")(letter(b"\xff{"))
    assert Match(status=422)(letter(b"\xff{"))
