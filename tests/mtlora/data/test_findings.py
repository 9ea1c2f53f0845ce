from pathlib import Path

from mtlora.data.findings import Finding, Findings, in_place


def test_a_cause_is_one_line_with_a_count_and_what_mends_it() -> None:
    findings = Findings()
    for index in range(5):
        findings.add("labels are torn", f"{index}.png", "Write them again")
    findings.add("labels are torn", "0.png", "Write them again")
    (found,) = findings.all()
    assert found.line() == "labels are torn: 5, 0.png, 1.png, 2.png and 2 more. Write them again"
    assert found.line(5).endswith("3.png, 4.png. Write them again")


def test_causes_keep_their_order() -> None:
    findings = Findings()
    findings.extend([Finding("b", ("1",)), Finding("a"), Finding("b", ("2",))])
    assert [finding.line() for finding in findings.all()] == ["b: 2, 1, 2", "a"]


def test_commands_name_the_folder_that_is_meant() -> None:
    finding = Finding("is it?", mend="`mtlora data upright DIR OUT`")
    (found,) = in_place([finding], Path("my data\\1"))
    assert found.line() == "is it? `mtlora data upright 'my data\\1' OUT`"
