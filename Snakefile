"""Dataset distillation: data, teachers, distilled sets, scores, report. `snakemake --list-rules` lists the stages."""

from snakemake.utils import min_version

min_version("9.8")


configfile: "params.yaml"


include: "workflow/rules/common.smk"


rule all:
    """Every study's table and figures, on one page."""
    input:
        f"{plan.report}/index.html",
        # The report is in git as well. What is not tells a clone that has yet to run from one that has.
        [plan.study_outputs(study)["notebook"] for study in plan.studies],


include: "workflow/rules/data.smk"
include: "workflow/rules/teach.smk"
include: "workflow/rules/distill.smk"
include: "workflow/rules/evaluate.smk"
include: "workflow/rules/analyse.smk"
include: "workflow/rules/report.smk"
