#!/usr/bin/env bash
# mlflow 3.17.2: a binary column of a served model receives FEWER BYTES than were sent, with status 200, when the client encodes
# them in the url-safe alphabet of base64 (RFC 4648, section 5: "-" and "_" instead of "+" and "/").
#
# Guess, written down first: the url-safe alphabet is either decoded rightly or answered with 400, for every request alike.
# Seen: the characters "-" and "_" are thrown away. Where what is left has a whole number of quadruples, the model gets the bytes
# without them and the answer is 200; elsewhere it is 400 "Incorrect padding". So most image files fail, and some pass, damaged.
# Who is hurt: whoever sends JPEG or TIFF files from a browser or from Python's urlsafe_b64encode to `mlflow models serve`: a
# decoder that forgives missing bytes maps a damaged image.
# Here: the signature's column is of any type, weakseg decodes both alphabets itself, and a mixture of both is refused.
set -euo pipefail
work=$(mktemp -d) && trap 'rm -rf "$work"' EXIT
command -v uv >/dev/null || { python3 -m venv "$work/tools" && "$work/tools/bin/pip" install -q uv==0.13.8; export PATH="$work/tools/bin:$PATH"; }
uv venv -q --python 3.11 "$work/env"
uv pip install -q --python "$work/env/bin/python" mlflow==3.17.2 "httpx==0.28.1"
cd "$work" && MLFLOW_DISABLE_TELEMETRY=true env/bin/python -W ignore - <<'P' 2>/dev/null
import base64

import mlflow
from fastapi.testclient import TestClient
from mlflow.models import ModelSignature
from mlflow.pyfunc import PythonModel, scoring_server
from mlflow.types import ColSpec, DataType, Schema


class Length(PythonModel):
    def predict(self, context, model_input, params=None):
        return [len(value) for value in model_input["file"]]


signature = ModelSignature(Schema([ColSpec(DataType.binary, "file")]), Schema([ColSpec(DataType.long)]))
mlflow.pyfunc.save_model("model", python_model=Length(), signature=signature, pip_requirements=[])
client = TestClient(scoring_server.init(mlflow.pyfunc.load_model("model")))


def ask(text: str) -> tuple[int, object]:
    answer = client.post("/invocations", json={"dataframe_records": [{"file": text}]})
    return answer.status_code, answer.json().get("predictions")


passes, fails = b"\xff\xff\xffabc", b"\xfbabc"
seen = {
    "6 bytes, standard": ask(base64.b64encode(passes).decode()),
    "6 bytes, url-safe": ask(base64.urlsafe_b64encode(passes).decode()),
    "4 bytes, url-safe": ask(base64.urlsafe_b64encode(fails).decode()),
}
print("mlflow", mlflow.__version__, seen)
assert seen == {
    "6 bytes, standard": (200, [6]),
    "6 bytes, url-safe": (200, [3]),
    "4 bytes, url-safe": (400, None),
}, "mlflow behaves otherwise now"
P
