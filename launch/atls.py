"""A first look at antibody variable domains: `python -m atls [FILE.fasta]`.

Prints, for each sequence of the file (or for trastuzumab's two domains when none is given), what
biopython computes of it, how alike the sequences are, and how far the CDR3 loop reaches out in a
bead model that openmm relaxes.
"""

from __future__ import annotations

import argparse
import re
from typing import TYPE_CHECKING

import numpy as np
import openmm
import pandas as pd
from Bio import SeqIO
from Bio.Align import PairwiseAligner, substitution_matrices
from Bio.Seq import Seq
from Bio.SeqRecord import SeqRecord
from Bio.SeqUtils.ProtParam import ProteinAnalysis
from openmm import unit

if TYPE_CHECKING:
    from collections.abc import Sequence

EXAMPLE = {
    "trastuzumab_VH": (
        "EVQLVESGGGLVQPGGSLRLSCAASGFNIKDTYIHWVRQAPGKGLEWVARIYPTNGYTRYADSVKGRFTISADTSKNTAYLQMNSLRAED"
        "TAVYYCSRWGGDGFYAMDYWGQGTLVTVSS"
    ),
    "trastuzumab_VL": (
        "DIQMTQSPSSLSASVGDRVTITCRASQDVNTAVAWYQQKPGKAPKLLIYSASFLYSGVPSRFSGSRSGTDFTLTISSLQPEDFATYYCQQ"
        "HYTTPPTFGQGTKVEIK"
    ),
}

CDR3 = re.compile(r"C([A-Z]{3,35}?)[FW]G[A-Z]G")
"""From cysteine 104 to framework 4 (IMGT numbering)."""

BEAD_DISTANCE = 0.38
"""Between the alpha carbons of neighbouring residues, in nm."""
END_DISTANCE = 0.7
"""Between the alpha carbons of cysteine 104 and residue 118, in nm."""


def read(path: str | None) -> list[SeqRecord]:
    """The sequences of a FASTA file, or the example's."""
    if path is not None:
        return list(SeqIO.parse(path, "fasta"))
    return [SeqRecord(Seq(sequence), id=name) for name, sequence in EXAMPLE.items()]


def properties(records: Sequence[SeqRecord]) -> pd.DataFrame:
    """One row for each sequence."""
    table = []
    for record in records:
        sequence = str(record.seq)
        protein = ProteinAnalysis(sequence)
        cdr3 = CDR3.findall(sequence)
        table.append(
            {
                "residues": len(sequence),
                "kDa": protein.molecular_weight() / 1000,
                "pI": protein.isoelectric_point(),
                "charge_pH7": protein.charge_at_pH(7.0),
                "gravy": protein.gravy(),
                "cdr3": cdr3[-1] if cdr3 else "",
            }
        )
    index = pd.Index([record.id for record in records], name="sequence")
    return pd.DataFrame(table, index=index)


def identities(records: Sequence[SeqRecord]) -> np.ndarray:
    """Identical residues of each pair, aligned globally with BLOSUM62, in per cent."""
    aligner = PairwiseAligner(open_gap_score=-11, extend_gap_score=-1)
    aligner.substitution_matrix = substitution_matrices.load("BLOSUM62")
    result = np.eye(len(records)) * 100
    for i, first in enumerate(records):
        for j, second in enumerate(records[:i]):
            alignment = aligner.align(first.seq, second.seq)[0]
            share = alignment.counts().identities / min(len(first), len(second))
            result[i, j] = result[j, i] = 100 * share
    return result


def loop_reach(residues: int) -> float:
    """How far a loop reaches out from the middle of its ends, in nm.

    A bead for each residue, springs between neighbours, repulsion between all others, and the ends
    held together as the framework holds them; it starts from half a circle and is relaxed. No
    more than a picture of the loop's size: the residues are all alike.
    """
    system = openmm.System()
    springs = openmm.HarmonicBondForce()
    repulsion = openmm.CustomNonbondedForce("4*(0.4/r)^12")
    for bead in range(residues):
        system.addParticle(110.0)
        repulsion.addParticle([])
        if bead:
            springs.addBond(bead - 1, bead, BEAD_DISTANCE, 50_000.0)
            repulsion.addExclusion(bead - 1, bead)
    springs.addBond(0, residues - 1, END_DISTANCE, 50_000.0)
    system.addForce(springs)
    system.addForce(repulsion)
    angles = np.linspace(0, np.pi, residues)
    radius = BEAD_DISTANCE * residues / np.pi
    start = radius * np.column_stack([np.cos(angles), np.sin(angles), 0.01 * np.sin(5 * angles)])
    platform = openmm.Platform.getPlatformByName("Reference")
    context = openmm.Context(system, openmm.VerletIntegrator(0.001), platform)
    context.setPositions(start)
    openmm.LocalEnergyMinimizer.minimize(context)
    state = context.getState(getPositions=True)
    beads = state.getPositions(asNumpy=True).value_in_unit(unit.nanometer)
    middle = (beads[0] + beads[-1]) / 2
    return float(np.linalg.norm(beads - middle, axis=1).max())


def main() -> None:
    """Read, compute, print."""
    parser = argparse.ArgumentParser(prog="python -m atls", description=__doc__)
    parser.add_argument("fasta", nargs="?", help="amino acid sequences (default: trastuzumab)")
    records = read(parser.parse_args().fasta)
    table = properties(records)
    table["cdr3_reach_nm"] = [loop_reach(len(cdr3) + 2) if cdr3 else np.nan for cdr3 in table.cdr3]
    print(table.round(2).to_string())
    names = [record.id for record in records]
    print("\nidentity, %")
    print(pd.DataFrame(identities(records), names, names).round(1).to_string())
    numbers = range(openmm.Platform.getNumPlatforms())
    platforms = ", ".join(openmm.Platform.getPlatform(number).getName() for number in numbers)
    print(f"\nopenmm {openmm.__version__} can compute with: {platforms}")


if __name__ == "__main__":
    main()
