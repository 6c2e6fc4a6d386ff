"""Workflows: from a network to proven RTL as one run that can be cut off, and that does nothing twice."""

from codesign_kernel.session.workflow.result import StepResult, WorkflowResult
from codesign_kernel.session.workflow.run import plan_workflow, run_workflow

__all__ = ["StepResult", "WorkflowResult", "plan_workflow", "run_workflow"]
