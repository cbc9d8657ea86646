"""Pages of the site that are not files of docs/: those of the repository root, and those made of the program."""

from __future__ import annotations

import contextlib
import html
import io
import json
import re
import tempfile
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

import elastic_inference
from elastic_inference import errors
from elastic_inference.cli import main
from elastic_inference.host.devices import Device
from elastic_inference.host.doors.app import make_app
from elastic_inference.host.host import Host
from elastic_inference.host.settings import HostSettings

ROOT = Path(__file__).resolve().parents[2]
OF_THE_ROOT = {"index.md": "README.md", "contributing.md": "CONTRIBUTING.md", "security.md": "SECURITY.md",
               "changelog.md": "CHANGELOG.md"}  # fmt: skip
NOTEBOOK = "examples/video_object_detection"
_LINK = re.compile(r"\]\((?!https?:|#|mailto:)([^)#\s]+)(#[^)\s]*)?\)")
_METHODS = ("get", "put", "post", "patch", "delete")
ERRORS = """# Errors

::: elastic_inference.errors
    options:
      show_root_heading: false
"""
REPORT = """# A report

What `ei explore --article --target-latency 223ms -o report/` writes: the article's own measurements.
[Alone](report/report.html)

<iframe class="report" title="report" src="report/report.html"></iframe>
"""
STYLE = """
.md-typeset table:not([class]) { font-size: .68rem; }
.md-typeset .doc-heading code { word-break: break-word; }
.report { border: 1px solid var(--md-default-fg-color--lightest); width: 100%; height: 75vh; }
"""


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Let pages of docs/ that the navigation does not name stand at its end, so that none is lost."""
    named = set(re.findall(r"[\w/-]+\.md", json.dumps(config.nav)))
    others = sorted(path.name for path in Path(config.docs_dir).glob("*.md") if path.name not in named)
    if others:
        config.nav.append({"More": others})
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add what is made here."""
    pages = {name: (ROOT / source).read_text() for name, source in OF_THE_ROOT.items()}
    pages |= {
        "reference/python.md": python_page(),
        "reference/errors.md": ERRORS,
        "reference/rest.md": rest_page(openapi()),
        f"{NOTEBOOK}.md": notebook_page(json.loads((ROOT / f"{NOTEBOOK}.ipynb").read_text())),
        "examples/report.md": REPORT,
        "assets/site.css": STYLE,
    }
    for name, text in pages.items():
        files.append(File.generated(config, name, content=text))
    for name, content in report().items():
        files.append(File.generated(config, f"examples/report/{name}", content=content))
    return files


def on_page_markdown(markdown: str, page: Any, config: MkDocsConfig, **_: Any) -> str:
    """Let links lead to pages of the site; what is in the repository alone becomes its path."""
    source = OF_THE_ROOT.get(page.file.src_uri)
    folder = ROOT if source is not None else Path(config.docs_dir)
    pages = {(ROOT / original): name for name, original in OF_THE_ROOT.items()}

    def replaced(link: re.Match[str]) -> str:
        target = (folder / link[1]).resolve()
        name = pages.get(target)
        if name is None and target.is_relative_to(config.docs_dir):
            name = target.relative_to(Path(config.docs_dir).resolve()).as_posix()
        if name is not None:
            return f"]({name}{link[2] or ''})"
        if target.is_relative_to(ROOT) and target.exists() and page.file.src_uri.count("/") == 0:
            return f"](#){{: title='{target.relative_to(ROOT)} in the repository' }}"
        return link[0]

    return _LINK.sub(replaced, markdown)


def python_page() -> str:
    """Return the page of what a program imports, by what its reader does."""
    groups = {
        "Predictors": ("EIPredictor", "AsyncEIPredictor"),
        "Where to compute, and how": ("Accelerator", "LoadOptions", "Tls"),
        "What a predictor reports": ("PredictorReport", "CallTiming"),
    }
    shown = {name for names in groups.values() for name in names}
    missing = set(elastic_inference.__all__) - shown - set(errors.__all__) - {"__version__"}
    assert not missing, f"the page of the Python API lacks {missing}"
    lines = [
        "# Python",
        "",
        "All of these are names of `elastic_inference`; its errors are on [a page of their own](errors.md).",
    ]
    for title, names in groups.items():
        lines += ["", f"## {title}"]
        for name in names:
            lines += ["", f"::: {getattr(elastic_inference, name).__module__}.{name}"]
    return "\n".join(lines) + "\n"


def openapi() -> dict[str, Any]:
    """Return the description that a host gives of its control API."""
    device = Device("cpu:0", "cpu", "a CPU", 1.0, 1 << 30, {"fp32": 0.1}, "given for the documents")
    with tempfile.TemporaryDirectory(prefix="ei-docs-") as folder:
        settings = HostSettings(state_dir=Path(folder, "s"), devices=(device,), num_spares=0, data_host=None)
        with Host(settings) as host:
            return make_app(host).openapi()


def rest_page(api: dict[str, Any]) -> str:
    """Write OpenAPI as a page: each request with its parameters, body and answers, then the schemas."""
    also = (
        "A host serves the same description at `/openapi.json`. Requests carry `Authorization: Bearer TOKEN`."
    )
    lines = [f"# {api['info']['title']}", "", api["info"]["description"], "", also]
    for path, operations in api["paths"].items():
        for method in _METHODS:
            if method in operations:
                lines += ["", *_operation(method, path, operations[method])]
    lines += ["", "## Schemas"]
    for name, schema in sorted(api["components"]["schemas"].items()):
        lines += ["", f"### {name}", "", _cell(schema.get("description", "")), "", *_fields(schema)]
    return "\n".join(lines) + "\n"


def _operation(method: str, path: str, value: dict[str, Any]) -> list[str]:
    lines = [f"## {method.upper()} {path}", "", value.get("description", value.get("summary", ""))]
    parameters = [p for p in value.get("parameters", ()) if p["in"] != "header"]
    if parameters:
        lines += ["", "| parameter | in | type | meaning |", "|---|---|---|---|"]
        lines += [
            f"| `{p['name']}` | {p['in']} | {_type(p.get('schema', {}))} | {_cell(p.get('description', ''))} |"
            for p in parameters
        ]
    body = value.get("requestBody", {}).get("content", {})
    lines += [
        line
        for kind, each in body.items()
        for line in ("", f"Body ({kind}): {_type(each.get('schema', {}))}")
    ]
    lines += ["", "| status | answer |", "|---|---|"]
    for status, answer in value["responses"].items():
        types = ", ".join(
            f"{_type(c.get('schema', {}))} ({kind})" for kind, c in answer.get("content", {}).items()
        )
        lines.append(f"| {status} | {_cell(answer.get('description', ''))}{': ' + types if types else ''} |")
    return lines


def _fields(schema: dict[str, Any]) -> list[str]:
    properties = schema.get("properties", {})
    if not properties:
        return [_type(schema)]
    required = set(schema.get("required", ()))
    lines = ["| field | type | meaning |", "|---|---|---|"]
    for name, value in properties.items():
        optional = "" if name in required else " (optional)"
        lines.append(f"| `{name}`{optional} | {_type(value)} | {_cell(value.get('description', ''))} |")
    return lines


def _type(schema: dict[str, Any]) -> str:
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        return f"[{name}](#{name.lower()})"
    if "anyOf" in schema:
        return " or ".join(_type(each) for each in schema["anyOf"])
    if "enum" in schema:
        return " or ".join(f"`{each}`" for each in schema["enum"])
    if schema.get("type") == "array":
        return f"list of {_type(schema.get('items', {}))}"
    inner = schema.get("additionalProperties")
    if schema.get("type") == "object" and isinstance(inner, dict):
        return f"object of {_type(inner)}"
    return str(schema.get("type", "any"))


def _cell(text: str) -> str:
    return html.escape(" ".join(text.split()), quote=False).replace("|", "\\|").replace("{", "&#123;")


def notebook_page(notebook: dict[str, Any]) -> str:
    """Write a notebook's cells as a page."""
    parts = [f"*The same as a notebook: `{NOTEBOOK}.ipynb`, which the tests run.*"]
    for cell in notebook["cells"]:
        text = "".join(cell["source"])
        parts.append(text if cell["cell_type"] == "markdown" else f"```python\n{text}\n```")
    title, first = parts[1].partition("\n")[::2] if parts[1].startswith("# ") else ("# Notebook", parts[1])
    return "\n\n".join([title, parts[0], first, *parts[2:]]) + "\n"


def report() -> dict[str, bytes]:
    """Return the files of the article's report, written by the command itself."""
    with tempfile.TemporaryDirectory(prefix="ei-docs-") as folder:
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            code = main(["explore", "--article", "--target-latency", "223ms", "-o", folder])
        assert code == 0, code
        return {
            path.relative_to(folder).as_posix(): path.read_bytes()
            for path in Path(folder).rglob("*")
            if path.is_file()
        }
