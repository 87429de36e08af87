"""Exports every fixture adapter with attune, as adapter and merged, and compares logits in transformers and PEFT.

    ATTUNE_BIN=target/release/attune python test_exports.py

One line a comparison, the count last: "16 passed, 0 failed". The exit code is 1 if any comparison fails.
`cargo xtask test` runs it where it finds a Python with torch, transformers and peft.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

FIXTURES = Path(__file__).parent.parent / "fixtures"
TOLERANCE = 1e-4


def check(attune, adapter, base, form, work):
    """What is wrong with the export, or nothing: attune before to after it, and attune to transformers or PEFT."""
    out, logits = work / form, work / f"{form}.safetensors"
    command = [attune, "export", "--model", base, "--adapter", adapter, "--format", form, "--out", out]
    command += ["--logits", logits, "--device", "cpu", "--json"]
    own = subprocess.run(command, stdout=subprocess.PIPE, check=False)
    if own.returncode:
        return f"attune export ended with {own.returncode}"
    command = [sys.executable, Path(__file__).with_name("check_export.py"), "--export", out, "--logits", logits]
    command += ["--tolerance", str(TOLERANCE), *(["--base", base] if form == "adapter" else [])]
    theirs = subprocess.run(command, stdout=subprocess.PIPE, check=False)
    if not theirs.stdout:
        return f"check_export.py ended with {theirs.returncode}"
    apart = {"own": json.loads(own.stdout)["max_abs_diff"], "theirs": json.loads(theirs.stdout)["max_abs_diff"]}
    # Not `>`: a difference that is no number is one too.
    return "" if all(diff <= TOLERANCE for diff in apart.values()) else f"logits differ: {apart}"


def main():
    attune = Path(os.environ["ATTUNE_BIN"]).absolute()
    n_passed = n_failed = 0
    for adapter in sorted((FIXTURES / "adapters").iterdir()):
        model = json.loads((adapter / "golden.json").read_text())["model"]
        with tempfile.TemporaryDirectory() as folder:
            work = Path(folder)
            base = shutil.copytree(FIXTURES / "models" / model, work / "base")
            for name in ("tokenizer.json", "tokenizer_config.json"):
                shutil.copy(FIXTURES / "tokenizer" / name, base)
            for form in ("adapter", "merged"):
                problem = check(attune, adapter, base, form, work)
                print(f"{adapter.name} {form}: {problem or 'ok'}", flush=True)
                n_passed, n_failed = n_passed + (not problem), n_failed + bool(problem)
    print(f"{n_passed} passed, {n_failed} failed")
    sys.exit(n_failed > 0)


if __name__ == "__main__":
    main()
