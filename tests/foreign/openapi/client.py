"""A client written with the generated package: submits and reads a task, prints its state."""

import importlib
import pkgutil
import sys

import generated
from generated import AuthenticatedClient, models
from generated.api.tasks import get_task, submit_task

url, key = sys.argv[1:]
for module in pkgutil.walk_packages(generated.__path__, "generated."):
    importlib.import_module(module.name)
client = AuthenticatedClient(url, token=key, prefix="", auth_header_name="X-API-Key")
asked = models.SubmitImageGeneration(
    project_id="test_project",
    task_type="image_generation",
    task_data=models.ImageTaskData(prompt="a lighthouse"),
    priority=models.TaskPriority.HIGH,
    webhook_events=[models.EventType.TASK_FAILED],
)
made = submit_task.sync(client=client, body=asked, idempotency_key="once")
assert isinstance(made, models.Submission), made
again = submit_task.sync(client=client, body=asked, idempotency_key="once")
assert isinstance(again, models.Submission), again
assert again.task_id == made.task_id
task = get_task.sync(str(made.task_id), client=client)
assert isinstance(task, models.Task), task
assert task.created_at == made.created_at
refused = get_task.sync("absent", client=client)
assert isinstance(refused, models.Problem), refused
print(task.task_id, task.status.value, task.priority.value, refused.code)
