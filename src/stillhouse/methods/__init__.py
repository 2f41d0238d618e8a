"""Methods: how to distil. One file is one method; its name is the name used in params.yaml.

Params                                                  its settings
distill(real, per_class, params, run) -> DistilledSet   pure: no globals, no seeding, no device choice, no clock
BATCH                                                   optional: the axes ("per_class", "seed") whose sets one job makes
                                                        together, for methods that cost less than starting a job
TASKS                                                   optional: "classification" (without it, that alone), "regression"
SEEDLESS                                                optional: True where nothing is drawn
SELECTS                                                 optional: True where a set is of real examples, chosen by its model
budget(params)                                          optional: the part of the published budget
teachers(params), teacher_seeds(params)                 optional: models that must be trained on the real set before;
                                                        their seeds, where they are not the sets' own
datasets(params)                                        optional: names of other real sets that it reads (`run.other`)
files(params, per_class)                                optional: the user's own files that it reads
"""
