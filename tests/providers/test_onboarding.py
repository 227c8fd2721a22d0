"""From a Google account to a project: every branch, with the requests that are sent on it."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cliproxy.config.schema import Config, Endpoints, GeminiCliEndpoint
from cliproxy.oauth.base import Denied, Expired, Misconfigured, OAuthError, Unavailable
from cliproxy.providers.accounts import ClientSecrets, Handshake
from cliproxy.providers.base import USER_AGENT, Proxies
from cliproxy.providers.logins import gemini
from cliproxy.providers.logins.onboarding import CodeAssist, is_enabled, onboard, wanted_projects
from cliproxy.wire.http import Address
from cliproxy.wire.secrets import Secret
from exchanges import UNREACHABLE, Sent, answer, play, said

BASE = "https://cloudcode-pa.googleapis.com"
PROJECTS = "https://cloudresourcemanager.googleapis.com"
SERVICE = CodeAssist(Address.of(BASE), Address.of(PROJECTS), b"us/1", Secret("access-token-1"))
BEARER = {"accept": "application/json", "authorization": "Bearer access-token-1", "user-agent": "us/1"}
POSTED = {"content-type": "application/json"} | BEARER
SECRET = SERVICE.access.reveal()
METADATA = {"ideType": "IDE_UNSPECIFIED", "platform": "PLATFORM_UNSPECIFIED", "pluginType": "GEMINI"}
FREE = {"allowedTiers": [{"id": "legacy-tier"}, {"id": "free-tier", "isDefault": True}]}
STANDARD = {"allowedTiers": [{"id": "standard-tier", "isDefault": True, "userDefinedCloudaicompanionProject": True}]}
CURRENT = {"currentTier": {"id": "standard-tier"}}
RETIRED = {
    "ineligibleTiers": [
        {
            "reasonCode": "UNSUPPORTED_CLIENT",
            "reasonMessage": "Gemini CLI is no longer offered to individuals.",
            "tierId": "free-tier",
            "tierName": "Gemini Code Assist for individuals",
        }
    ]
}
LISTED = {
    "projects": [
        {"projectId": "project-a", "lifecycleState": "ACTIVE", "projectNumber": "1"},
        {"projectId": "project-gone", "lifecycleState": "DELETE_REQUESTED"},
        {"projectId": "project-b"},
        {"projectId": 7},
        "text",
    ]
}


def done(project: object = "assigned-1") -> dict[str, object]:
    return {"name": "operations/op-1", "done": True, "response": {"cloudaicompanionProject": project}}


def onboarded(*script, wanted: tuple[str, ...] = ()):
    return play(onboard(SERVICE, wanted), *script)


def post(method: str, body: object) -> Sent:
    return Sent("POST", f"{BASE}/v1internal:{method}", POSTED, json.dumps(body, separators=(",", ":")).encode())


# -- accounts that have a tier


def test_an_account_with_a_tier_has_its_project():
    played = onboarded(answer(CURRENT | {"cloudaicompanionProject": "project-a"}))

    assert played.steps == [post("loadCodeAssist", {"metadata": METADATA})]
    assert played.result == ("project-a",)


def test_a_project_that_is_asked_for_is_named_in_both_places():
    played = onboarded(answer(CURRENT), wanted=("mine-1",))

    about = {"cloudaicompanionProject": "mine-1", "metadata": METADATA | {"duetProject": "mine-1"}}
    assert played.steps == [post("loadCodeAssist", about)]
    assert played.result == ("mine-1",)


def test_a_project_that_is_asked_for_wins_on_a_licensed_tier():
    loaded = answer(CURRENT | {"cloudaicompanionProject": "project-a"})

    assert onboarded(loaded, wanted=("mine-1",)).result == ("mine-1",)


def test_the_project_that_google_assigns_wins_on_the_free_tier():
    loaded = answer({"currentTier": {"id": "free-tier"}, "cloudaicompanionProject": "assigned-1"})

    assert onboarded(loaded, wanted=("mine-1",)).result == ("assigned-1",)


def test_the_perimeter_of_an_organisation_means_a_licensed_account():
    refusal = answer({"error": {"code": 403, "details": [{"reason": "SECURITY_POLICY_VIOLATED"}]}}, 403)

    assert onboarded(refusal, wanted=("mine-1",)).result == ("mine-1",)


def test_a_tier_without_a_project_lists_those_that_there_are():
    played = onboarded(answer(CURRENT), answer(LISTED))

    assert played.steps[1] == Sent("GET", f"{PROJECTS}/v1/projects", BEARER, b"")
    assert isinstance(played.error, Misconfigured)
    assert str(played.error).endswith("Projects of this account: `project-a`, `project-b`.")


@pytest.mark.parametrize("listing", [answer({}, 403), answer(b"<html>"), answer({"projects": 7}), UNREACHABLE])
def test_a_listing_that_fails_leaves_the_error_as_it_is(listing):
    error = onboarded(answer(CURRENT), listing).error

    assert isinstance(error, Misconfigured)
    assert str(error).endswith("(`project_id`).")


def test_a_long_listing_is_cut():
    many = {"projects": [{"projectId": f"project-{number}"} for number in range(50)]}

    text = str(onboarded(answer(CURRENT), answer(many)).error)

    assert "`project-19`, and more." in text
    assert "project-20" not in text


# -- accounts that are onboarded


def test_the_free_tier_is_onboarded_without_a_project():
    played = onboarded(answer(FREE), answer(done({"id": "assigned-1", "name": "n"})), wanted=("mine-1",))

    assert played.steps[1] == post("onboardUser", {"tierId": "free-tier", "metadata": METADATA})
    assert played.result == ("assigned-1",)


def test_another_tier_is_onboarded_with_the_project():
    played = onboarded(answer(STANDARD), answer(done("other-1")), wanted=("mine-1",))

    assert played.steps[1] == post(
        "onboardUser",
        {
            "tierId": "standard-tier",
            "cloudaicompanionProject": "mine-1",
            "metadata": METADATA | {"duetProject": "mine-1"},
        },
    )
    assert played.result == ("mine-1",)


def test_no_tier_at_all_is_the_legacy_tier():
    played = onboarded(answer({}), answer(done()))

    assert played.requests[1].fields["tierId"] == "legacy-tier"
    assert played.result == ("assigned-1",)


def test_a_tier_that_wants_a_project_is_not_tried_without_one():
    played = onboarded(answer(STANDARD), answer(LISTED))

    assert [request.url for request in played.requests] == [
        f"{BASE}/v1internal:loadCodeAssist",
        f"{PROJECTS}/v1/projects",
    ]
    assert isinstance(played.error, Misconfigured)


def test_a_project_that_loading_names_is_onboarded():
    played = onboarded(answer(STANDARD | {"cloudaicompanionProject": "loaded-1"}), answer(done(None)))

    assert played.requests[1].fields["cloudaicompanionProject"] == "loaded-1"
    assert played.result == ("loaded-1",)


def test_an_operation_is_asked_for_every_five_seconds():
    under_way = answer({"name": "operations/op-1", "done": False})

    played = onboarded(
        answer(FREE), under_way, answer({}), answer(b"", 503), answer({}, 429), UNREACHABLE, answer(done())
    )

    asked = Sent("GET", f"{BASE}/v1internal/operations/op-1", BEARER, b"")
    assert played.steps[2:] == [5.0, asked] * 5
    assert played.result == ("assigned-1",)


@pytest.mark.parametrize("name", ["", None, "../secrets", "a b", "x?y", "operations/\r\nx: y", "operations//x", 7])
def test_an_operation_that_cannot_be_asked_for_is_begun_again(name):
    played = onboarded(answer(FREE), answer({"name": name}), answer(done()))

    assert played.requests[2] == played.requests[1]
    assert played.pauses == [5.0]


def test_an_operation_is_not_waited_for_longer_than_five_minutes():
    played = play(onboard(SERVICE, ()), answer(FREE), then=answer({"name": "operations/op-1"}))

    assert isinstance(played.error, Expired)
    assert sum(played.pauses) == 300.0


@pytest.mark.parametrize("project", [None, "", {}, {"id": ""}, 7, "two words"])
def test_done_without_a_project_is_an_error(project):
    played = onboarded(answer(FREE), answer(done(project)), answer(LISTED))

    assert isinstance(played.error, Misconfigured)
    assert "assigns no project" in str(played.error)


def test_done_with_an_error_is_told():
    failed = {"done": True, "error": {"code": 7, "message": "Not for access-token-1."}}

    error = onboarded(answer(FREE), answer(failed)).error

    assert isinstance(error, Denied)
    assert error.told == "Not for [secret]."


@pytest.mark.parametrize("status", [400, 403, 404])
def test_an_operation_that_is_refused_ends_it(status):
    error = onboarded(answer(FREE), answer({"name": "operations/op-1"}), answer({}, status)).error

    assert isinstance(error, OAuthError)


# -- accounts that are refused


def test_an_account_that_google_retired_is_told_so():
    error = onboarded(answer(RETIRED)).error

    assert isinstance(error, Denied)
    assert error.told == "UNSUPPORTED_CLIENT: Gemini CLI is no longer offered to individuals."


def test_a_retired_account_that_could_buy_a_licence_is_told_so_too():
    error = onboarded(answer(RETIRED | STANDARD)).error

    assert isinstance(error, Denied)
    assert "UNSUPPORTED_CLIENT" in error.told


def test_a_retired_account_with_a_licence_goes_on():
    assert onboarded(answer(RETIRED | STANDARD), answer(done()), wanted=("mine-1",)).result == ("mine-1",)
    assert onboarded(answer(RETIRED | CURRENT), wanted=("mine-1",)).result == ("mine-1",)


def test_an_account_to_be_verified_is_shown_the_way():
    link = "https://accounts.google.com/signin/continue?sarp=1&plt=AKgnsbsomethingverylongandrandomlooking0123456789"
    tier = {
        "reasonCode": "VALIDATION_REQUIRED",
        "reasonMessage": "Verify.",
        "validationErrorMessage": "Verify your account to continue.",
        "validationUrl": link,
    }

    error = onboarded(answer(FREE | {"ineligibleTiers": [tier]})).error

    assert isinstance(error, Denied)
    assert error.told == f"VALIDATION_REQUIRED: Verify your account to continue. {link}"


@pytest.mark.parametrize("link", ["javascript:alert(1)", "https://a b", 7, "https://" + "x" * 2000])
def test_a_link_that_nobody_should_open_is_left_out(link):
    tier = {"reasonCode": "VALIDATION_REQUIRED", "reasonMessage": "Verify.", "validationUrl": link}

    assert onboarded(answer({"ineligibleTiers": [tier]})).error.told == "VALIDATION_REQUIRED: Verify."


def test_a_link_with_the_token_in_it_is_left_out():
    tier = {
        "reasonCode": "VALIDATION_REQUIRED",
        "reasonMessage": f"See {SECRET}.",
        "validationUrl": f"https://h/{SECRET}",
    }
    details = [{"metadata": {"activationUrl": f"https://h/{SECRET}"}}]

    closed = onboarded(answer({"ineligibleTiers": [tier]})).error
    refused = onboarded(answer({"error": {"message": "m", "details": details}}, 403)).error

    assert (closed.told, refused.told) == ("VALIDATION_REQUIRED: See [secret].", "m")


def test_a_refusal_comes_with_its_links():
    details = [
        {"reason": "VALIDATION_REQUIRED", "metadata": {"validation_link": "https://verify.example/x"}},
        {"links": [{"url": "https://help.example/y"}, {"url": "https://verify.example/x"}]},
    ]
    body = {"error": {"code": 403, "status": "PERMISSION_DENIED", "message": "Verify first.", "details": details}}

    error = onboarded(answer([body], 403)).error

    assert isinstance(error, Denied)
    assert error.told == "PERMISSION_DENIED: Verify first. https://verify.example/x https://help.example/y"


@pytest.mark.parametrize(
    ("status", "kind"), [(400, Denied), (403, Denied), (412, Denied), (401, Unavailable), (404, Unavailable),
                         (429, Unavailable), (500, Unavailable), (503, Unavailable), (302, Unavailable)]
)  # fmt: skip
@pytest.mark.parametrize("before", [(), (answer(FREE),)], ids=["load", "onboard"])
def test_a_refusal_is_final_and_a_failure_may_pass(before, status, kind):
    error = onboarded(*before, answer({"error": {"message": "m"}}, status, retry_after="9")).error

    assert type(error) is kind
    assert error.told == "m"
    assert error.retry_after == (9.0 if kind is Unavailable else None)


@pytest.mark.parametrize("body", [b"", b"<html>", b"[]", b"null"])
@pytest.mark.parametrize("before", [(), (answer(FREE),)], ids=["load", "onboard"])
def test_garbage_is_told_as_such(before, body):
    assert isinstance(onboarded(*before, answer(body)).error, Unavailable)


# -- which projects


@pytest.mark.parametrize(
    ("text", "projects"),
    [
        ("", ()),
        (" , ", ()),
        ("my-project", ("my-project",)),
        (" a1 ,b2,a1", ("a1", "b2")),
        ("example.com:my-project", ("example.com:my-project",)),
        ("all", ("ALL",)),
        ("a1,ALL", ("ALL",)),
    ],
)
def test_projects_are_asked_for_by_their_ids(text, projects):
    assert wanted_projects(text) == projects


@pytest.mark.parametrize("text", ["123456789", "a1,42", "a b", "a/b", "-a", "a\n2b", "x" * 101, "ä"])
def test_what_is_no_id_of_a_project_is_refused(text):
    with pytest.raises(Misconfigured, match="id"):
        wanted_projects(text)


def test_several_projects_are_onboarded_one_by_one():
    played = onboarded(answer(CURRENT), answer(CURRENT), wanted=("a1", "b2"))

    assert [request.fields["cloudaicompanionProject"] for request in played.requests] == ["a1", "b2"]
    assert played.result == ("a1", "b2")


def test_all_projects_are_those_that_google_lists():
    played = onboarded(answer(LISTED), answer(CURRENT), answer(CURRENT), wanted=("ALL",))

    assert played.result == ("project-a", "project-b")


def test_all_projects_leave_out_one_that_is_refused():
    played = onboarded(answer(LISTED), answer({}, 403), answer(CURRENT), wanted=("ALL",))

    assert played.result == ("project-b",)


def test_all_projects_are_none_when_all_are_refused():
    played = onboarded(answer(LISTED), answer({}, 403), answer({}, 403), wanted=("ALL",))

    assert isinstance(played.error, Denied)


def test_all_projects_of_an_account_without_any_is_an_error():
    assert isinstance(onboarded(answer({}), wanted=("ALL",)).error, Misconfigured)


# -- whether a project may be used


def test_a_project_is_tried_with_the_smallest_question():
    played = play(is_enabled(SERVICE, "a1"), answer({"response": {}}))

    body = {
        "model": "gemini-2.5-flash",
        "project": "a1",
        "request": {
            "contents": [{"role": "user", "parts": [{"text": "hi"}]}],
            "generationConfig": {"maxOutputTokens": 1, "thinkingConfig": {"thinkingBudget": 0}},
        },
    }
    assert played.steps == [post("generateContent", body)]
    assert played.result is True


@pytest.mark.parametrize("failure", [answer({}, 403), answer({}, 404), answer({}, 429), answer(b"", 500), UNREACHABLE])
def test_a_failure_says_nothing_of_the_project(failure):
    assert play(is_enabled(SERVICE, "a1"), failure).result is False


def test_a_project_that_has_to_be_enabled_is_shown_the_way():
    link = "https://console.developers.google.com/apis/api/cloudaicompanion.googleapis.com/overview?project=a1"
    body = {"error": {"code": 403, "message": "Disabled.", "details": [{"metadata": {"activationUrl": link}}]}}

    error = play(is_enabled(SERVICE, "a1"), answer([body], 403)).error

    assert isinstance(error, Denied)
    assert "`a1`" in str(error)
    assert error.told == f"Disabled. {link}"


# -- in a whole login

TOKENS = answer({"access_token": "access-token-1", "refresh_token": "r", "expires_in": 3600})
USER = answer({"email": "ann@example.com"})


def logged_in(*script, project: str = "", config: Config = Config()):
    handshake = Handshake("state", Secret("verifier"), "http://localhost:1/oauth2callback")
    secrets = ClientSecrets(environment=Secret("google-secret"))
    return play(gemini.LOGIN.complete(config, Proxies(), handshake, "c", project, 0.0, secrets), *script)


@pytest.mark.parametrize(("check", "checked"), [(answer({}), True), (answer({}, 429), False)])
def test_a_given_project_is_checked_and_recorded(check, checked):
    (new,) = logged_in(TOKENS, USER, answer(CURRENT), check, project="mine-1").result

    assert (new.members["project_id"], new.members["auto"], new.members["checked"]) == ("mine-1", False, checked)


def test_several_projects_become_one_file():
    (new,) = logged_in(TOKENS, USER, *[answer(CURRENT)] * 2, *[answer({})] * 2, project="a1,b2").result

    assert (new.name, new.members["project_id"]) == ("gemini-ann@example.com-all.json", "a1,b2")


def test_all_projects_are_not_asked_one_by_one_whether_they_answer():
    (new,) = logged_in(TOKENS, USER, answer(LISTED), *[answer(CURRENT)] * 2, project="all").result

    assert (new.members["project_id"], new.members["auto"], new.members["checked"]) == (
        "project-a,project-b",
        False,
        False,
    )


def test_a_number_is_refused_before_anything_is_sent():
    played = logged_in(project="1234567890")

    assert played.steps == []
    assert isinstance(played.error, Misconfigured)


def test_nothing_goes_past_a_moved_endpoint():
    moved = Config(
        endpoints=Endpoints(
            gemini_cli=GeminiCliEndpoint(
                base_url="http://127.0.0.1:9/g/", token_url="http://127.0.0.1:9/t", userinfo_url="http://127.0.0.1:9/u"
            )
        )
    )

    played = logged_in(TOKENS, USER, answer(CURRENT), answer(LISTED), config=moved)

    assert [request.url for request in played.requests] == [
        "http://127.0.0.1:9/t",
        "http://127.0.0.1:9/u",
        "http://127.0.0.1:9/g/v1internal:loadCodeAssist",
        "http://127.0.0.1:9/g/v1/projects",
    ]
    assert {request.headers["user-agent"] for request in played.requests} == {USER_AGENT}


# -- anything

values = st.recursive(
    st.sampled_from([None, True, False, "", "free-tier", "x-1", f"https://h/{SECRET}", SECRET, 7, "VALIDATION_REQUIRED"]),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from([
        "id", "isDefault", "reasonCode", "reasonMessage", "validationUrl", "metadata", "activationUrl", "message", "url",
        "links", "details", "cloudaicompanionProject",
    ]), inner, max_size=3),
    max_leaves=6,
)  # fmt: skip
bodies = st.dictionaries(
    st.sampled_from([
        "currentTier", "allowedTiers", "ineligibleTiers", "cloudaicompanionProject", "done", "name", "response", "error",
        "projects",
    ]),
    values,
)  # fmt: skip
replies = st.builds(answer, bodies, st.sampled_from([200, 200, 200, 403, 429, 500])) | st.just(UNREACHABLE)


@settings(deadline=None, max_examples=200)
@given(st.lists(replies, max_size=6), st.sampled_from([(), ("mine-1",), ("ALL",), ("a1", "b2")]))
def test_whatever_google_says_it_ends_with_projects_or_an_error_that_tells_no_secret(script, wanted):
    played = play(onboard(SERVICE, wanted), *script, then=answer({}))

    if played.error is None:
        assert all(played.result)
    else:
        assert SECRET not in said(played.error)
