"""The tracker ``mlflow`` in a job of Azure ML: by azureml-mlflow, to a workspace that is a stub on this machine.

    python log_to_azureml.py FOLDER

The variables are those that a job has. Prints what the workspace was asked, a request a line.
"""

from __future__ import annotations

import base64
import datetime
import ipaddress
import json
import os
import ssl
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

FOLDER = Path(sys.argv[1])
SCOPE = "/subscriptions/s/resourceGroups/g/providers/Microsoft.MachineLearningServices/workspaces/w"
RUN = {"info": {"run_id": "job_1", "experiment_id": "7", "status": "RUNNING", "artifact_uri": ""}, "data": {}}
ASKED: list[str] = []


class Workspace(BaseHTTPRequestHandler):
    """Takes whatever it is sent."""

    def log_message(self, *_: Any) -> None:
        pass

    def do_POST(self) -> None:
        sent = self.rfile.read(int(self.headers.get("Content-Length", 0))).decode()
        path = self.path.partition("?")[0]
        assert SCOPE in path, path
        assert self.headers["Authorization"] == f"Bearer {TOKEN}"
        ASKED.append(f"{self.command} {path.rpartition(SCOPE)[2]} {sent}")
        answer = json.dumps({"run": RUN} if path.endswith("runs/get") else {}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    do_GET = do_POST


def part(content: dict[str, Any]) -> str:
    return base64.urlsafe_b64encode(json.dumps(content).encode()).decode().rstrip("=")


TOKEN = f"{part({'alg': 'none'})}.{part({'exp': 4_000_000_000})}."


def certificate() -> Path:
    """Key and certificate of 127.0.0.1 in a file."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.datetime.now(datetime.UTC)
    names = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    made = x509.CertificateBuilder(name, name, key.public_key(), 1, now, now + datetime.timedelta(days=1))
    signed = made.add_extension(names, False).sign(key, hashes.SHA256())
    pem = serialization.Encoding.PEM
    kind = serialization.PrivateFormat.PKCS8
    path = FOLDER / "certificate.pem"
    path.write_bytes(key.private_bytes(pem, kind, serialization.NoEncryption()) + signed.public_bytes(pem))
    return path


def main() -> None:
    pem = certificate()
    server = ThreadingHTTPServer(("127.0.0.1", 0), Workspace)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pem)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    os.environ |= {
        "MLFLOW_TRACKING_URI": f"azureml://127.0.0.1:{server.server_port}/mlflow/v1.0{SCOPE}",
        "MLFLOW_TRACKING_TOKEN": TOKEN,
        "MLFLOW_RUN_ID": "job_1",
        "MLFLOW_EXPERIMENT_ID": "7",
        "MLFLOW_EXPERIMENT_NAME": "rltrain",
        "AZUREML_RUN_ID": "job_1",
        "AZUREML_CURRENT_CLOUD": "AzureCloud",
        "REQUESTS_CA_BUNDLE": str(pem),
    }
    from rltrain.tracker import RunInfo
    from rltrain.trackers.mlflow import MlflowTracker

    (FOLDER / "ppo_1").mkdir()
    tracker = MlflowTracker(RunInfo(FOLDER / "ppo_1", 100))
    tracker.hparams({"agent.gamma": 0.9})
    tracker.log({"rollout/ep_rew_mean": 5.0}, 10)
    tracker.finish({})
    tracker.close()
    print("\n".join(ASKED))


main()
