"""Tables, figures, the page."""

for study in plan.studies:

    rule:
        """Render one study: its table in four formats and its figures."""
        name:
            study
        input:
            rows=[each.path for each in plan.evaluations(study)],
            pictures=plan.pictured_sets(study),
            analyses=[each.path for each in plan.analyses(study)],
            recipes=[plan.recipe(each.path) for each in plan.analyses(study)],
            images=[path for each in plan.analyses(study) for path in each.images],
            notebook=f"notebooks/{plan.studies[study].notebook}.ipynb",
        output:
            **plan.study_outputs(study),
            figures=plan.figures(study),
        log:
            f"logs/{plan.config.scale}/report/{study}.log",
        params:
            study=study,
            settings=plan.settings_of_study(study),
            code=plan.code_of_report(),
            report=plan.report,
        shell:
            "papermill --no-progress-bar {input.notebook} {output.notebook} -p study {params.study}"
            " -p report {params.report} -p settings {params.settings:q} > {log} 2>&1"


rule page:
    """Put every study's table, figures and recipes on one self-contained page."""
    input:
        studies=[plan.study_outputs(study)["part"] for study in plan.studies],
        figures=[figure for study in plan.studies for figure in plan.figures(study)],
    output:
        page=f"{plan.report}/index.html",
        metrics=f"{plan.report}/metrics.json",
    log:
        f"logs/{plan.config.scale}/report/page.log",
    localrule: True
    params:
        code=plan.code_of_report(),
    shell:
        "stillhouse page {output.page} --metrics {output.metrics} --studies {input.studies} > {log} 2>&1"
