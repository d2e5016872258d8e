// What somebody writes against the generated types; compiled with `tsc --strict`, never run.
import type { components, paths, webhooks } from "./types";

type Schemas = components["schemas"];
type Submit = paths["/api/v1/tasks/submit"]["post"]["requestBody"]["content"]["application/json"];

// What has a default may be left out, at every depth.
export const shortest: Submit = {
  project_id: "films",
  task_type: "image_generation",
  task_data: { prompt: "a lighthouse" },
};
export const some: Submit = {
  project_id: "films",
  task_type: "video_generation",
  priority: 1,
  task_data: {
    scene_data: { prompt: "a storm", dialogue: [{ character: "Ann", text: "Hold on." }] },
    video_params: { fps: 24 },
    audio_params: { music: false },
  },
};
export const replay: Schemas["BulkReplayRequest"] = { filter: { status: "dead" } };
export const rotate: Schemas["RotateRequest"] = {};

// What is required, or is not among the values, is an error.
// @ts-expect-error: no task_data
export const lacking: Submit = { project_id: "films", task_type: "video_generation" };
// @ts-expect-error: no such priority
export const urgent: Schemas["TaskPriority"] = "urgent";
// @ts-expect-error: no such member
export const odd: Schemas["VideoParams"] = { frames: 24 };

// What comes back is told whole.
type Completed = webhooks["task.completed"]["post"]["requestBody"];
export function receipt(event: NonNullable<Completed>["content"]["application/json"]): string {
  const { media_url, size_bytes, sha256, codecs, files, provider } = event.result;
  const bytes: number = size_bytes;
  return [media_url, bytes, sha256, codecs.join(), files[0].role, provider].join(" ");
}
export function attempts(message: Schemas["Message"]): number {
  return message.attempt_count;
}
export const states: Record<Schemas["TaskStatus"], boolean> = {
  queued: false,
  processing: false,
  completed: true,
  failed: true,
  cancelled: true,
};
