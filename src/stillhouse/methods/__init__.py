"""Methods: how to distil. One file is one method; its name is the name used in params.yaml.

Params                                                  its settings
distill(real, per_class, params, run) -> DistilledSet   pure: no globals, no seeding, no device choice, no clock
BATCH                                                   optional: the axes ("per_class", "seed") whose sets one job makes
                                                        together, for methods that cost less than starting a job
"""
