"""Real data sets."""


rule prepare:
    """Fetch, check and save a real data set."""
    input:
        lambda w: plan.source_files(w.dataset),
    output:
        ensure("data/prepared/{dataset}.safetensors", non_empty=True),
    log:
        "logs/prepare/{dataset}.log",
    retries: 1
    params:
        settings=lambda w: plan.settings_of_dataset(w.dataset),
        code=lambda w: plan.code_of_dataset(w.dataset),
    shell:
        "stillhouse prepare {wildcards.dataset} {output} --settings {params.settings:q} > {log} 2>&1"
