"""The networks that generated images go through: planned, and their sizes limited, before anything is computed."""

from collections.abc import Callable, Collection

from artifact.spec import Spec, Task
from ganserve.v1 import images_pb2 as pb
from server.errors import InvalidRequest, in_step
from server.images.channels import plan_translation, plan_upscale
from server.images.generate import Passage
from server.images.guidance import Guidance
from server.images.header import Format, Header
from server.images.sizes import TransformPlan, in_one_pass
from server.repository.model import Model

# After the generator.
MAX_STEPS = 8
_TASKS = (Task.SUPER_RESOLUTION, Task.IMAGE_TO_IMAGE)


def plan_steps(
    wanted: Collection[pb.Step],
    generator: Spec,
    find: Callable[[str, str, Collection[Task]], tuple[Model, Spec]],
    check_size: Callable[[TransformPlan], None],
) -> tuple[tuple[Model, ...], tuple[Passage, ...]]:
    """The models of the steps after the generator, and how its images go through them.

    Args:
        wanted: as the request has them.
        generator: what the images come from.
        find: the model of a name and version, which must have one of the tasks.
        check_size: refuses images that are too large.

    Raises:
        RequestError: a step that cannot be made; the text names it.
    """
    if len(wanted) > MAX_STEPS:
        raise InvalidRequest(f"then: {len(wanted)} steps, at most {MAX_STEPS}")
    models, passages = [], []
    height, width, channels = generator.image_shape
    for number, each in enumerate(wanted, 2):
        with in_step(step := f"step {number} (model {each.model!r})"):
            if not 1 <= channels <= 4:
                raise InvalidRequest(f"images of {channels} channels come in; a network takes 1 to 4")
            model, spec = find(each.model, each.version, _TASKS)
            header = Header(Format.RAW, width, height, channels)
            if spec.task is Task.IMAGE_TO_IMAGE:
                plan = plan_translation(spec, header, True, guidance=Guidance(each.labels))
            elif each.labels:
                raise InvalidRequest(f"labels: {len(each.labels)} given, but the model is {spec.task}; leave them out")
            else:
                plan = plan_upscale(spec, header, True)
            check_size(in_one_pass(plan))
        models.append(model)
        passages.append(Passage(step, model.batcher, plan))
        height, width, channels = plan.shape
    return tuple(models), tuple(passages)
