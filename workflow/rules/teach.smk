"""Teachers: models trained on the whole real set, in one pass that several jobs may share."""


scattergather:
    shards=plan.config.shards,


rule accumulate:
    """Sum what a teacher needs of one shard of the real set."""
    input:
        "data/prepared/{dataset}.safetensors",
    output:
        moments=temp(
            ensure(
                plan.moments("{dataset}", "{model}", "{seed}", "{scatteritem}"),
                non_empty=True,
            )
        ),
        cost=temp(
            plan.cost(plan.moments("{dataset}", "{model}", "{seed}", "{scatteritem}"))
        ),
    log:
        f"logs/{plan.config.scale}/accumulate/{{dataset}}/{{model}}/seed{{seed}}/{{scatteritem}}.log",
    threads: 1
    resources:
        **GPU,
        mem_mb=2500,
    params:
        shard=lambda w: w.scatteritem.replace("-of-", " "),
        settings=lambda w: plan.settings_of_model(w.model, w.dataset),
        code=lambda w: plan.code_of_teacher(w.model),
    shell:
        "stillhouse accumulate {input} {output.moments} --model {params.settings:q} --seed {wildcards.seed}"
        " --shard {params.shard} --code {params.code} --threads {threads} > {log} 2>&1"


rule teach:
    """Train a model on the whole real set."""
    input:
        data="data/prepared/{dataset}.safetensors",
        moments=moments_of_teacher,
        costs=lambda w: [plan.cost(path) for path in moments_of_teacher(w)],
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
        moments=lambda w, input: f"--moments {input.moments}" if input.moments else "",
        settings=lambda w: plan.settings_of_model(w.model, w.dataset),
        code=lambda w: plan.code_of_teacher(w.model),
    shell:
        "stillhouse teach {input.data} {output.teacher} --model {params.settings:q} --seed {wildcards.seed}"
        " {params.moments} --code {params.code} --threads {threads} > {log} 2>&1"
