"""Analyses: numbers about a method or a theorem on one data set, that are no scores of distilled sets."""

for analysis in plan.analyses():

    rule:
        """Run one analysis on one data set."""
        name:
            analysis.job
        input:
            plan.data(analysis.dataset),
        output:
            rows=ensure(analysis.path, non_empty=True),
            recipe=plan.recipe(analysis.path),
            cost=plan.cost(analysis.path),
            images=analysis.images,
        log:
            f"logs/{plan.config.scale}/analyse/{analysis.dataset}/{analysis.name}/seed{analysis.seed}.log",
        threads: 1
        resources:
            **GPU,
            mem_mb=3000,
        params:
            analysis=analysis.name,
            seed=analysis.seed,
            images=f"--images {analysis.images[0]}" if analysis.images else "",
            settings=plan.settings_of_analysis(analysis.name, analysis.dataset),
            code=plan.code_of_analysis(analysis.name),
        shell:
            "stillhouse analyse {input} {output.rows} --analysis {params.analysis} --settings {params.settings:q}"
            " --seed {params.seed} {params.images} --code {params.code} --threads {threads} > {log} 2>&1"
