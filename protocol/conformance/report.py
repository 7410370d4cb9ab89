"""Tell how a client did: for people, for programs and for build servers."""

import json
from collections import Counter
from collections.abc import Sequence
from xml.etree import ElementTree

from protocol.conformance.case import Case
from protocol.conformance.runner import Result


def list_text(cases: Sequence[Case]) -> str:
    """List cases for people: id, how the last step must end, what it proves."""
    width = max((len(case.id) for case in cases), default=0)
    return "\n".join(f"{case.id:{width}}  {case.expected[-1]!s:18}  {case.proves}" for case in cases)


def list_json(cases: Sequence[Case]) -> str:
    """List cases for programs, with every step's ending."""
    return json.dumps([_described(case) for case in cases], indent=1)


def result_text(results: Sequence[Result]) -> str:
    """Tell the results for people: what has failed, a line for each class."""
    failed = [f"FAILED {result.case.id}: {result.case.proves}; {result.fault}" for result in _failed(results)]
    groups = {result.case.group: None for result in results}
    return "\n".join((*failed, *(_line(group, results) for group in groups), _line("all", results)))


def result_json(results: Sequence[Result]) -> str:
    """Tell the results for programs."""
    told = [
        {**_described(result.case), "outcome": outcome(result), "fault": result.fault or None} for result in results
    ]
    return json.dumps({"counts": Counter(outcome(result) for result in results), "cases": told}, indent=1)


def result_junit(results: Sequence[Result]) -> str:
    """Tell the results as JUnit's XML, which build servers read."""
    counts = Counter(outcome(result) for result in results)
    numbers = {"tests": len(results), "failures": counts["failed"], "skipped": counts["skipped"]}
    root = ElementTree.Element(
        "testsuite", {"name": "ecan-conformance"} | {name: str(n) for name, n in numbers.items()}
    )
    for result in results:
        entry = ElementTree.SubElement(root, "testcase", classname=result.case.group, name=result.case.name)
        if outcome(result) == "failed":
            ElementTree.SubElement(entry, "failure", message=result.fault).text = result.case.proves
        elif result.is_skipped:
            ElementTree.SubElement(entry, "skipped", message="the client does not know a kind of step in it")
    return ElementTree.tostring(root, encoding="unicode")


def outcome(result: Result) -> str:
    """Return `passed`, `failed` or `skipped`."""
    if result.is_skipped:
        return "skipped"
    return "passed" if result.has_passed else "failed"


def _failed(results: Sequence[Result]) -> list[Result]:
    return [result for result in results if outcome(result) == "failed"]


def _line(group: str, results: Sequence[Result]) -> str:
    counts = Counter(outcome(result) for result in results if group in (result.case.group, "all"))
    skipped = f", {counts['skipped']} not known to the client" if counts["skipped"] else ""
    return f"{group:12} {counts['passed']:4} passed, {counts['failed']} failed{skipped}"


def _described(case: Case) -> dict[str, object]:
    endings = [{"kind": step.kind, "exit": step.ending.exit, "code": step.ending.code} for step in case.steps]
    return {"id": case.id, "class": case.group, "rule": case.rule, "proves": case.proves, "steps": endings}
