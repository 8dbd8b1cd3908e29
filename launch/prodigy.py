"""How tightly two protein chains bind: `python -m prodigy [FILE.pdb] [--chains A B]`.

Counts the contacts between the chains by the kind of their residues, measures with FreeSASA how
much of each chain the other one covers, and predicts the binding affinity by PRODIGY's model.
Without a file it takes two short strands of a sheet, whose coordinates are ideal ones.
"""

from __future__ import annotations

import argparse
import io
from typing import TYPE_CHECKING

import freesasa
import pandas as pd
from Bio.PDB.PDBParser import PDBParser
from prodigy_prot.modules.prodigy import Prodigy

if TYPE_CHECKING:
    from Bio.PDB.Structure import Structure

CONTACTS = {
    "CC": "charged, charged",
    "CP": "charged, polar",
    "AC": "apolar, charged",
    "PP": "polar, polar",
    "AP": "apolar, polar",
    "AA": "apolar, apolar",
}
EXAMPLE = """\
ATOM      1  N   GLU A   1      -8.076   0.171  -0.201  1.00  0.00           N
ATOM      2  CA  GLU A   1      -6.858   0.707   0.396  1.00  0.00           C
ATOM      3  C   GLU A   1      -5.623   0.228  -0.359  1.00  0.00           C
ATOM      4  O   GLU A   1      -5.433   0.568  -1.526  1.00  0.00           O
ATOM      5  CB  GLU A   1      -6.904   2.236   0.418  1.00  0.00           C
ATOM      6  N   VAL A   2      -4.786  -0.560   0.309  1.00  0.00           N
ATOM      7  CA  VAL A   2      -3.571  -1.082  -0.305  1.00  0.00           C
ATOM      8  C   VAL A   2      -2.333  -0.626   0.459  1.00  0.00           C
ATOM      9  O   VAL A   2      -2.142  -0.998   1.617  1.00  0.00           O
ATOM     10  CB  VAL A   2      -3.620  -2.610  -0.368  1.00  0.00           C
ATOM     11  N   LYS A   3      -1.497   0.178  -0.188  1.00  0.00           N
ATOM     12  CA  LYS A   3      -0.279   0.681   0.437  1.00  0.00           C
ATOM     13  C   LYS A   3       0.956   0.244  -0.342  1.00  0.00           C
ATOM     14  O   LYS A   3       1.146   0.647  -1.490  1.00  0.00           O
ATOM     15  CB  LYS A   3      -0.324   2.206   0.542  1.00  0.00           C
ATOM     16  N   VAL A   4       1.793  -0.580   0.281  1.00  0.00           N
ATOM     17  CA  VAL A   4       3.008  -1.067  -0.360  1.00  0.00           C
ATOM     18  C   VAL A   4       4.246  -0.654   0.428  1.00  0.00           C
ATOM     19  O   VAL A   4       4.438  -1.088   1.564  1.00  0.00           O
ATOM     20  CB  VAL A   4       2.960  -2.589  -0.506  1.00  0.00           C
ATOM     21  N   GLU A   5       5.083   0.185  -0.174  1.00  0.00           N
ATOM     22  CA  GLU A   5       6.300   0.653   0.477  1.00  0.00           C
ATOM     23  C   GLU A   5       7.536   0.258  -0.325  1.00  0.00           C
ATOM     24  O   GLU A   5       7.726   0.723  -1.449  1.00  0.00           O
ATOM     25  CB  GLU A   5       6.255   2.170   0.664  1.00  0.00           C
TER
ATOM     26  N   LYS B   1       7.076   0.171   4.801  1.00  0.00           N
ATOM     27  CA  LYS B   1       5.858   0.707   4.204  1.00  0.00           C
ATOM     28  C   LYS B   1       4.623   0.228   4.959  1.00  0.00           C
ATOM     29  O   LYS B   1       4.433   0.568   6.126  1.00  0.00           O
ATOM     30  CB  LYS B   1       5.904   2.236   4.182  1.00  0.00           C
ATOM     31  N   VAL B   2       3.786  -0.560   4.291  1.00  0.00           N
ATOM     32  CA  VAL B   2       2.571  -1.082   4.905  1.00  0.00           C
ATOM     33  C   VAL B   2       1.333  -0.626   4.141  1.00  0.00           C
ATOM     34  O   VAL B   2       1.142  -0.998   2.983  1.00  0.00           O
ATOM     35  CB  VAL B   2       2.620  -2.610   4.968  1.00  0.00           C
ATOM     36  N   GLU B   3       0.497   0.178   4.788  1.00  0.00           N
ATOM     37  CA  GLU B   3      -0.721   0.681   4.163  1.00  0.00           C
ATOM     38  C   GLU B   3      -1.956   0.244   4.942  1.00  0.00           C
ATOM     39  O   GLU B   3      -2.146   0.647   6.090  1.00  0.00           O
ATOM     40  CB  GLU B   3      -0.676   2.206   4.058  1.00  0.00           C
ATOM     41  N   VAL B   4      -2.793  -0.580   4.319  1.00  0.00           N
ATOM     42  CA  VAL B   4      -4.008  -1.067   4.960  1.00  0.00           C
ATOM     43  C   VAL B   4      -5.246  -0.654   4.172  1.00  0.00           C
ATOM     44  O   VAL B   4      -5.438  -1.088   3.036  1.00  0.00           O
ATOM     45  CB  VAL B   4      -3.960  -2.589   5.106  1.00  0.00           C
ATOM     46  N   LYS B   5      -6.083   0.185   4.774  1.00  0.00           N
ATOM     47  CA  LYS B   5      -7.300   0.653   4.123  1.00  0.00           C
ATOM     48  C   LYS B   5      -8.536   0.258   4.925  1.00  0.00           C
ATOM     49  O   LYS B   5      -8.726   0.723   6.049  1.00  0.00           O
ATOM     50  CB  LYS B   5      -7.255   2.170   3.936  1.00  0.00           C
TER
END
"""


def area(structure: Structure, chains: set[str]) -> float:
    """The solvent accessible surface of some chains without the others, in square ångström."""
    alone = structure.copy()
    for chain in list(alone[0]):
        if chain.id not in chains:
            alone[0].detach_child(chain.id)
    return float(freesasa.calc(freesasa.structureFromBioPDB(alone)).totalArea())


def covered(structure: Structure, chains: list[str]) -> pd.DataFrame:
    """For each chain its surface, and what of both surfaces disappears where they meet."""
    areas = {chain: area(structure, {chain}) for chain in chains}
    both = area(structure, set(chains))
    rows = {chain: round(value, 1) for chain, value in areas.items()}
    rows["together"] = round(both, 1)
    rows["covered"] = round(sum(areas.values()) - both, 1)
    return pd.DataFrame({"surface/Å²": rows})


def main() -> None:
    """Compute and print."""
    parser = argparse.ArgumentParser(prog="python -m prodigy", description=__doc__)
    parser.add_argument("file", nargs="?", help="a complex in the PDB format")
    parser.add_argument("--chains", nargs=2, default=["A", "B"], metavar="CHAIN")
    arguments = parser.parse_args()
    source = arguments.file or io.StringIO(EXAMPLE)
    structure = PDBParser(QUIET=True).get_structure("complex", source)
    prodigy = Prodigy(structure, arguments.chains)
    prodigy.predict()
    counts = {words: int(prodigy.bins[key]) for key, words in CONTACTS.items()}
    print(pd.DataFrame({"contacts": {**counts, "all": len(prodigy.ic_network)}}))
    print(covered(structure, arguments.chains))
    print(f"affinity   {prodigy.ba_val:.1f} kcal/mol")
    print(f"Kd         {prodigy.kd_val:.1e} mol/l at {prodigy.temp:.0f} °C")


if __name__ == "__main__":
    main()
