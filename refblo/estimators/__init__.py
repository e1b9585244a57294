"""One estimator a file: equation, state, step, estimate.

This file is written by `python -m refblo.testing.exports`.
"""

from refblo.estimators.adaptive import AdaptiveImplicit, BoundedImplicit
from refblo.estimators.amigo import AmIGO
from refblo.estimators.bmaml import BMAML
from refblo.estimators.closed_form_head import ClosedFormHead, Direction
from refblo.estimators.compiled import Compiled
from refblo.estimators.covariance import CovarianceIdentity
from refblo.estimators.discounted import DiscountedHPOSGLD
from refblo.estimators.error_bound import Constants
from refblo.estimators.evolution import EvolutionStrategies, Variant
from refblo.estimators.fmd import FMD, FMDDirectional
from refblo.estimators.fo_maml import FOMAML
from refblo.estimators.fsla import FSLA
from refblo.estimators.hpo_sgld import HPOSGLD
from refblo.estimators.ift import IFTConjugateGradient, IFTDense, IFTNeumann, NeumannScaling
from refblo.estimators.imaml import IMAML, proximal
from refblo.estimators.joint_objective import JointObjective, joint
from refblo.estimators.laplace_evidence import LaplaceEvidence, laplace
from refblo.estimators.maml import MAML
from refblo.estimators.mrbo import MRBO
from refblo.estimators.protocol import Estimator
from refblo.estimators.random_tangents import Law, RandomTangents
from refblo.estimators.reptile import Reptile
from refblo.estimators.rmd import RMD, RMDFirstOrder
from refblo.estimators.running_solve import RunningSolve
from refblo.estimators.saba import SABA
from refblo.estimators.soba import SOBA
from refblo.estimators.stocbio import StocBiO
from refblo.estimators.t1_t2 import T1T2
from refblo.estimators.uoro import UORO
from refblo.estimators.vrbo import VRBO
from refblo.estimators.warm import WarmEstimator, WarmState

__all__ = [
    "BMAML",
    "FMD",
    "FOMAML",
    "FSLA",
    "HPOSGLD",
    "IMAML",
    "MAML",
    "MRBO",
    "RMD",
    "SABA",
    "SOBA",
    "T1T2",
    "UORO",
    "VRBO",
    "AdaptiveImplicit",
    "AmIGO",
    "BoundedImplicit",
    "ClosedFormHead",
    "Compiled",
    "Constants",
    "CovarianceIdentity",
    "Direction",
    "DiscountedHPOSGLD",
    "Estimator",
    "EvolutionStrategies",
    "FMDDirectional",
    "IFTConjugateGradient",
    "IFTDense",
    "IFTNeumann",
    "JointObjective",
    "LaplaceEvidence",
    "Law",
    "NeumannScaling",
    "RMDFirstOrder",
    "RandomTangents",
    "Reptile",
    "RunningSolve",
    "StocBiO",
    "Variant",
    "WarmEstimator",
    "WarmState",
    "joint",
    "laplace",
    "proximal",
]
