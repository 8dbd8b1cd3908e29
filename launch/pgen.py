"""How likely V(D)J recombination makes a CDR3: `python -m pgen [CDR3 …]`.

Prints the generation probability of each amino acid sequence (from the conserved cysteine to the
conserved phenylalanine or tryptophan, both included) by OLGA's model of the chosen chain, the
most probable first. A clone that is shared by many people usually has a high one.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import olga
import polars as pl
from olga.generation_probability import GenerationProbabilityVDJ
from olga.load_model import GenerativeModelVDJ, GenomicDataVDJ

MODELS = Path(olga.__file__).parent / "default_models"
CHAINS = {"beta": "human_T_beta", "heavy": "human_B_heavy"}
EXAMPLE = ("CASSLGQAYEQYF", "CASSLAPGATNEKLFF", "CASSPRWDRGTGELFF")


def load(chain: str) -> GenerationProbabilityVDJ:
    """OLGA's model of a human chain that has V, D and J genes."""
    directory = MODELS / CHAINS[chain]
    parameters = str(directory / "model_params.txt")
    genes = GenomicDataVDJ()
    genes.load_igor_genomic_data(
        parameters,
        str(directory / "V_gene_CDR3_anchors.csv"),
        str(directory / "J_gene_CDR3_anchors.csv"),
    )
    model = GenerativeModelVDJ()
    model.load_and_process_igor_model(str(directory / "model_marginals.txt"))
    return GenerationProbabilityVDJ(model, genes)


def probabilities(sequences: list[str], chain: str) -> pl.DataFrame:
    """A row for each sequence, the most probable first."""
    model = load(chain)
    values = [model.compute_aa_CDR3_pgen(sequence, print_warnings=False) for sequence in sequences]
    return (
        pl.DataFrame({"cdr3": sequences, "pgen": values})
        .with_columns(
            residues=pl.col("cdr3").str.len_chars(),
            log10=pl.col("pgen").log10().round(2),
        )
        .sort("pgen", descending=True)
    )


def main() -> None:
    """Compute and print."""
    parser = argparse.ArgumentParser(prog="python -m pgen", description=__doc__)
    parser.add_argument("cdr3", nargs="*", default=EXAMPLE, help="amino acid sequences")
    parser.add_argument("--chain", choices=CHAINS, default="beta", help="default: beta")
    arguments = parser.parse_args()
    with pl.Config(tbl_rows=-1, tbl_hide_dataframe_shape=True, tbl_hide_column_data_types=True):
        print(probabilities(list(arguments.cdr3), arguments.chain))


if __name__ == "__main__":
    main()
