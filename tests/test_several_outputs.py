"""Networks with several outputs, or without an answer to some feeds, at int8."""

from __future__ import annotations

import pytest

from support import run
from sure_windows import sure_windows
from tcn_export.cli.export import main as export_command
from tcn_export.cli.verify import main as verify_command

INT8 = ("--target", "onnx", "--precision", "int8", "--layout", "1d")
WAIVED = "the accuracy bound (150 windows, 299 needed)"

TWO_OUTPUTS = """
import torch
from torch import nn

class Two(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.conv = nn.Conv1d(3, 8, 3, padding=4, dilation=2)
        self.head = nn.Linear(8, 4)
    def forward(self, x):
        h = torch.relu(self.conv(x)[:, :, :-4])
        return {"logits": self.head(h.mean(-1)), "hidden": h}

class Divided(Two):
    def forward(self, x):
        return super().forward(x)["logits"] / x.abs().mean((1, 2)).unsqueeze(1)
"""


@pytest.fixture
def networks(tmp_path, monkeypatch):
    (tmp_path / "two_outputs.py").write_text(TWO_OUTPUTS)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    import two_outputs

    return two_outputs


def test_only_the_answer_of_several_outputs_is_scored(networks):
    network = networks.Two().eval()
    data = sure_windows("d.npz", network, 150, (3, 24), answer=lambda y: y["logits"])
    options = ["--factory", "two_outputs:Two", "--input-shape", "3,24", *INT8, "--data", data]
    ran = run(export_command, *options, "--json")
    assert (ran.code, ran.json["parity"]["verdict"]) == (3, "undecided")
    judged = {
        (row["output"], row["metric"]): row["status"]
        for row in ran.json["parity"]["rows"]
        if row["feed"] == "windows"
    }
    assert judged["logits", "accuracy_lost_upper95_points"] == "undecided"
    assert judged["hidden", "sqnr_db"] == "pass"
    assert ("hidden", "accuracy_lost_upper95_points") not in judged
    assert len(ran.json["parity"]["scores"]["actual"]["classes"]) == 4
    ran = run(export_command, *options, "--json", "--overwrite", "--allow-undecided")
    assert (ran.code, ran.json["waived"]) == (0, [WAIVED])


def test_network_without_an_answer_to_zeros_is_judged_on_everything_else(networks):
    options = ["--factory", "two_outputs:Divided", "--input-shape", "3,24", "--target", "onnx"]
    ran = run(export_command, *options, "--layout", "1d", "--json")
    assert ran.code == 0, ran.stdout
    forms = {r["feed"]: r for r in ran.json["parity"]["rows"] if r["metric"] == "form"}
    assert "of the model's own are NaN or infinite" in forms["zeros"]["note"]
    assert forms["normal"]["note"] == ""
    assert run(verify_command, ran.json["bundle"]).code == 0
