"""``rltrain serve``: answers with the actions of a policy over HTTP."""

from __future__ import annotations

from rltrain.cli.options import Parser, whole
from rltrain.cli.output import say
from rltrain.errors import ConfigError, plain


def main(arguments: list[str]) -> int:
    """Serves a policy until a signal."""
    parser = Parser("serve", "Answer with the actions of a policy over HTTP.")
    parser.add_argument("model", metavar="MODEL", help="run folder, checkpoint in it, or exported .onnx file")
    parser.add_argument("--checkpoint", metavar="best|latest|STEP", default="latest", help="of a run [latest]")
    parser.add_argument("--host", metavar="ADDRESS", default="127.0.0.1", help="[127.0.0.1: this machine alone]")
    parser.add_argument("--port", type=whole(0), metavar="INT", default=8000, help="0 for any that is free [8000]")
    what = "file with a token, which requests must bear; needed where --host lets other machines in"
    parser.add_argument("--token-file", metavar="FILE", help=what)
    parser.add_argument("--max-rows", type=whole(1), metavar="INT", default=256, help="observations in a call [256]")
    parser.add_argument("--max-waiting", type=whole(1), metavar="INT", default=1024, help="observations in wait [1024]")
    parser.add_argument("--max-body", type=whole(1), metavar="BYTES", default=2**20, help="of a request [1048576]")
    parser.add_argument("--max-sessions", type=whole(1), metavar="INT", default=1024, help="[1024]")
    what = "close a session after so many without a request [600]"
    parser.add_argument("--session-seconds", type=whole(1), metavar="INT", default=600, help=what)
    what = "cut off a request that is not whole after so many [30]"
    parser.add_argument("--request-seconds", type=whole(1), metavar="INT", default=30, help=what)
    what = "keep every observation and action in this folder, for its owner alone; nothing is kept without it"
    parser.add_argument("--log-decisions", metavar="DIR", help=what)
    what = "of all files in that folder, after which nothing more is kept [268435456]"
    parser.add_argument("--log-limit", type=whole(1), metavar="BYTES", help=what)
    parsed = parser.parse(arguments)
    if parsed.log_limit is not None and parsed.log_decisions is None:
        raise ConfigError("'--log-limit' is of --log-decisions.", "Give both, or leave it out.")

    from rltrain.serving import server

    server.need()
    token = server.read_token(parsed.token_file)
    server.check_host(parsed.host, token)

    from rltrain.serving.limits import Bounds
    from rltrain.serving.model import open_model

    model = open_model(parsed.model, checkpoint=parsed.checkpoint)
    limits = parsed.max_rows, parsed.max_waiting, parsed.max_sessions, parsed.session_seconds
    bounds = Bounds(parsed.max_body, *limits, parsed.request_seconds)
    decisions = None
    listening = server.open_port(parsed.host, parsed.port)
    if parsed.log_decisions is not None:
        from rltrain.recording.decision_log import LIMIT, DecisionLog
        from rltrain.serving.decisions import Decisions

        own, limit = (model.observation_space, model.action_space), parsed.log_limit or LIMIT
        decisions = Decisions(DecisionLog(parsed.log_decisions, model.version, model.env, *own, limit=limit))
        say(f"decisions are kept in {plain(parsed.log_decisions)}")
    title = f"{model.version} of {model.env}" if model.env else model.version
    server.serve(model, listening, bounds, token, decisions, tell=lambda url: say(f"serving {plain(title)} at {url}"))
    return 0
