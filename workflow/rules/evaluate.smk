"""Scores."""


rule evaluate:
    """Score one experiment's distilled sets by one model on the whole test set."""
    input:
        data="data/prepared/{dataset}.safetensors",
        files=lambda w: plan.evaluated_files(
            w.dataset, w.experiment, w.protocol, w.model
        ),
        teachers=lambda w: plan.references(w.dataset, w.experiment, w.model),
    output:
        ensure(
            plan.evaluation("{dataset}", "{experiment}", "{protocol}", "{model}"),
            non_empty=True,
        ),
    log:
        f"logs/{plan.config.scale}/evaluate/{{dataset}}/{{experiment}}/{{protocol}}-{{model}}.log",
    threads: lambda w: plan.config.protocols[w.protocol].trainings
    resources:
        **GPU,
        mem_mb=3000,
    params:
        whole=lambda w: "--whole" if w.experiment == params.WHOLE else "",
        teachers=lambda w, input: (
            f"--teachers {input.teachers}" if input.teachers else ""
        ),
        settings=lambda w: plan.settings_of_model(w.model, w.dataset),
        trainings=lambda w: plan.config.protocols[w.protocol].trainings,
        training=lambda w: plan.config.protocols[w.protocol].training,
        code=lambda w: plan.code_of_evaluation(w.model),
    shell:
        "stillhouse evaluate {input.data} {input.files} {params.whole} --protocol {wildcards.protocol}"
        " --model-name {wildcards.model} --model {params.settings:q} --trainings {params.trainings}"
        " --training {params.training} {params.teachers}"
        " --code {params.code} --threads {threads} --out {output} > {log} 2>&1"
