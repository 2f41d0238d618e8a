"""Distilled sets: one rule per job, so that a method may make several sets together where starting costs more than they do."""

for batch in plan.batches():

    rule:
        """Make the distilled sets of one experiment on one data set."""
        name:
            batch.name
        input:
            data=plan.data(batch.dataset),
            teachers=batch.teachers,
            others=[path for _, path in batch.others],
            files=batch.files,
        output:
            sets=[ensure(path, non_empty=True) for path in batch.outputs],
            costs=[plan.cost(path) for path in batch.outputs],
        log:
            f"logs/{plan.config.scale}/{batch.log}.log",
        threads: 1
        resources:
            **GPU,
            mem_mb=3500,
        params:
            experiment=batch.experiment,
            sets=batch.arguments,
            extras=batch.extras,
            settings=plan.settings_of_experiment(batch.experiment, batch.dataset),
            code=plan.code_of_method(batch.experiment),
        shell:
            "stillhouse distill {input.data} --experiment {params.experiment} --method {params.settings:q} {params.sets}"
            " {params.extras} --code {params.code} --threads {threads} > {log} 2>&1"
