"""Checks of ours for schemathesis."""

import schemathesis


@schemathesis.check
def openai_form(ctx, response, case):
    """A refusal is `{"error": {"message", "type", "param", "code"}}`, and an answer is the object that was asked for."""
    if "/messages" in case.path:
        return  # Anthropic's form, which the document's own schema describes.
    body = response.json() if "json" in response.headers.get("content-type", [""])[0] else None
    if response.status_code >= 400:
        error = (body or {}).get("error")
        assert isinstance(error, dict), f"no error in {response.text[:300]}"
        assert isinstance(error["message"], str) and error["message"], error
        assert isinstance(error["type"], str) and isinstance(error["code"], str), error
        assert error["param"] is None or isinstance(error["param"], str), error
