import java.io.ByteArrayOutputStream;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;

/** Sends a form as Java programs write it by hand, the JDK having no writer: java Form.java URL IMAGE */
public class Form {
  public static void main(String[] args) throws Exception {
    byte[] image = Files.readAllBytes(Path.of(args[1]));
    String boundary = "----Java" + System.nanoTime();
    ByteArrayOutputStream body = new ByteArrayOutputStream();
    for (int part = 0; part < 2; part++) {
      body.write(("--" + boundary + "\r\nContent-Disposition: form-data; name=\"image\"; "
          + "filename=\"bäume.jpg\"\r\nContent-Type: image/jpeg\r\n"
          + "Content-Transfer-Encoding: binary\r\n\r\n").getBytes(StandardCharsets.UTF_8));
      body.write(image);
      body.write("\r\n".getBytes(StandardCharsets.UTF_8));
    }
    body.write(("--" + boundary + "--\r\n").getBytes(StandardCharsets.UTF_8));
    HttpRequest request = HttpRequest.newBuilder(URI.create(args[0] + "/classify"))
        .header("Content-Type", "multipart/form-data; boundary=" + boundary)
        .header("X-Latency-Budget-Ms", "60000")
        .POST(HttpRequest.BodyPublishers.ofByteArray(body.toByteArray()))
        .build();
    HttpResponse<String> answer =
        HttpClient.newHttpClient().send(request, HttpResponse.BodyHandlers.ofString());
    System.out.println(answer.statusCode() + " " + answer.body());
  }
}
