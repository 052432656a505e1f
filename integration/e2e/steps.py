"""Runs functions as named steps, one line each: "ok NAME" or "not ok NAME: why"."""

import json
import os
import sys
import time
import traceback
import urllib.request

ENDPOINT = os.environ["HF_ENDPOINT"]
failed = False


def step(name):
    """Run the decorated function now. A failure is printed and the script goes on."""

    def run(f):
        global failed
        try:
            f()
        except BaseException as e:
            failed = True
            traceback.print_exc()
            lines = str(e).strip().splitlines() or [""]
            print(f"not ok {name}: {type(e).__name__}: {lines[0]}", flush=True)
        else:
            print(f"ok {name}", flush=True)
        return f

    return run


def finish():
    sys.exit(1 if failed else 0)


def equal(got, want):
    if got != want:
        raise AssertionError(f"got {got!r}, want {want!r}")


def raises(status, f):
    """Call f, which must fail with that HTTP status."""
    try:
        f()
    except Exception as e:
        seen = []
        while e is not None:
            response = getattr(e, "response", None)
            if response is not None:
                if response.status_code == status:
                    return e
                seen.append(response.status_code)
            seen.append(repr(e))
            e = e.__cause__ or e.__context__
        raise AssertionError(f"failed with {seen}, want HTTP {status}")
    raise AssertionError(f"succeeded, want HTTP {status}")


def admin(method, path, body=None):
    """Ask the Hub's /_hub/ interface."""
    data = None if body is None else json.dumps(body).encode()
    req = urllib.request.Request(ENDPOINT + "/_hub/" + path, data=data, method=method)
    req.add_header("Content-Type", "application/json")
    with urllib.request.urlopen(req, timeout=30) as r:
        text = r.read()
    return json.loads(text) if text.strip() else None


class fault:
    """Set one rule for a with block; at its end it must have fired `times` times."""

    def __init__(self, times=1, **rule):
        self.times, self.rule = times, dict(rule, times=times)

    def __enter__(self):
        admin("POST", "faults", [self.rule])

    def __exit__(self, kind, *_):
        fired = [r["fired"] for r in admin("GET", "faults")]
        admin("DELETE", "faults")
        if kind is None:
            equal(fired, [self.times])


def eventually(f, seconds=10):
    """Wait until f() is true."""
    deadline = time.monotonic() + seconds
    while not f():
        if time.monotonic() > deadline:
            raise AssertionError("did not become true in time")
        time.sleep(0.05)
