"""Teachers: models trained on the whole real set."""


rule teach:
    """Train a model on the whole real set."""
    input:
        "data/prepared/{dataset}.safetensors",
    output:
        teacher=ensure(plan.teacher("{dataset}", "{model}", "{seed}"), non_empty=True),
        cost=plan.cost(plan.teacher("{dataset}", "{model}", "{seed}")),
    log:
        f"logs/{plan.config.scale}/teach/{{dataset}}/{{model}}/seed{{seed}}.log",
    threads: 1
    resources:
        **GPU,
        mem_mb=2500,
    params:
        settings=lambda w: plan.settings_of_model(w.model, w.dataset),
        code=lambda w: plan.code_of_teacher(w.model),
    shell:
        "stillhouse teach {input} {output.teacher} --model {params.settings:q} --seed {wildcards.seed}"
        " --code {params.code} --threads {threads} > {log} 2>&1"
