// What somebody writes with the generated package: submit, and read the task. Prints its state.
package main

import (
	"context"
	"fmt"
	"net/http"
	"os"

	"foreign/client"
)

func main() {
	url, key := os.Args[1], os.Args[2]
	withKey := func(ctx context.Context, request *http.Request) error {
		request.Header.Set("X-API-Key", key)
		return nil
	}
	api, err := client.NewClientWithResponses(url, client.WithRequestEditorFn(withKey))
	check(err)
	prompt, rate := "a lighthouse", client.N24
	var body client.Submit
	check(body.FromSubmitVideoGeneration(client.SubmitVideoGeneration{
		ProjectId: "test_project",
		TaskType:  client.SubmitVideoGenerationTaskTypeVideoGeneration,
		TaskData: client.VideoTaskData{
			SceneData:   &client.SceneData{Prompt: &prompt},
			VideoParams: &client.VideoParams{Fps: &rate},
		},
	}))
	made, err := api.SubmitTaskWithResponse(context.Background(), nil, body)
	check(err)
	if made.JSON201 == nil {
		panic(string(made.Body))
	}
	task, err := api.GetTaskWithResponse(context.Background(), made.JSON201.TaskId.String())
	check(err)
	fmt.Println(task.JSON200.TaskId, task.JSON200.Status, task.JSON200.Priority)
}

func check(err error) {
	if err != nil {
		panic(err)
	}
}
