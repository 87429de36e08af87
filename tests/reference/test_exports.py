"""Exports every fixture adapter with attune, as adapter and merged, and compares logits in transformers and PEFT.

    python check_exports.py --attune target/release/attune

Prints one JSON object; the exit code is 1 if any comparison fails.
"""

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from shared import log, report

FIXTURES = Path(__file__).parent.parent / "fixtures"


def check(attune, adapter, base, form, work):
    """Largest differences: attune before to after the export, and attune to transformers or PEFT."""
    out, logits = work / form, work / f"{form}.safetensors"
    command = [attune, "export", "--model", base, "--adapter", adapter, "--format", form, "--out", out]
    command += ["--logits", logits, "--device", "cpu", "--json"]
    own = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)
    command = [sys.executable, Path(__file__).with_name("check_export.py"), "--export", out, "--logits", logits]
    command += ["--tolerance", "1e-4", *(["--base", base] if form == "adapter" else [])]
    theirs = subprocess.run(command, stdout=subprocess.PIPE, check=False)
    figures = json.loads(theirs.stdout or "{}")
    return {"own": own["max_abs_diff"], "theirs": figures.get("max_abs_diff"), "passed": theirs.returncode == 0}


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--attune", type=Path, required=True)
    options = parser.parse_args()
    results = {}
    for adapter in sorted((FIXTURES / "adapters").iterdir()):
        model = json.loads((adapter / "golden.json").read_text())["model"]
        with tempfile.TemporaryDirectory() as folder:
            work = Path(folder)
            base = shutil.copytree(FIXTURES / "models" / model, work / "base")
            for name in ("tokenizer.json", "tokenizer_config.json"):
                shutil.copy(FIXTURES / "tokenizer" / name, base)
            for form in ("adapter", "merged"):
                log(f"{adapter.name} {form}")
                results[f"{adapter.name} {form}"] = check(options.attune.absolute(), adapter, base, form, work)
    report(results)
    sys.exit(not all(result["passed"] for result in results.values()))


if __name__ == "__main__":
    main()
