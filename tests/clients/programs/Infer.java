// A Java HttpClient with its defaults, which offer each server HTTP/2 by `Upgrade`: prints the answers to two requests.

import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse;

public class Infer {
    public static void main(String[] arguments) throws Exception {
        String base = "http://" + arguments[0] + "/v2/models/" + arguments[2];
        String body = "{\"inputs\": [{\"name\": \"x\", \"datatype\": \"UINT8\", \"shape\": [1, 3], \"data\": [1, 2, 3]}]}";
        HttpClient client = HttpClient.newHttpClient();
        for (HttpRequest.Builder request : new HttpRequest.Builder[] {
            HttpRequest.newBuilder(URI.create(base + "/ready")),
            HttpRequest.newBuilder(URI.create(base + "/infer")).POST(HttpRequest.BodyPublishers.ofString(body)),
        }) {
            HttpResponse<String> answer = client.send(
                request.header("Authorization", "Bearer " + arguments[1]).build(), HttpResponse.BodyHandlers.ofString());
            System.out.println(answer.statusCode() + " " + answer.body());
        }
    }
}
