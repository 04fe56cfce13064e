// Sends a form as Go's mime/multipart writes it: go run form.go URL IMAGE
package main

import (
	"bytes"
	"fmt"
	"io"
	"mime/multipart"
	"net/http"
	"os"
)

func check(err error) {
	if err != nil {
		panic(err)
	}
}

func main() {
	image, err := os.ReadFile(os.Args[2])
	check(err)
	var body bytes.Buffer
	form := multipart.NewWriter(&body)
	check(form.WriteField("note", "from Go"))
	for range 2 {
		part, err := form.CreateFormFile("image", "photo \"1\".jpg")
		check(err)
		_, err = part.Write(image)
		check(err)
	}
	check(form.Close())
	request, err := http.NewRequest("POST", os.Args[1]+"/classify", &body)
	check(err)
	request.Header.Set("Content-Type", form.FormDataContentType())
	request.Header.Set("X-Latency-Budget-Ms", "60000")
	answer, err := http.DefaultClient.Do(request)
	check(err)
	text, err := io.ReadAll(answer.Body)
	check(err)
	fmt.Println(answer.StatusCode, string(text))
}
